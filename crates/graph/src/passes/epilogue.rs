//! Elementwise nodes move into the node that computes what they read.

use crate::ops::{Binary, Unary};
use crate::passes::Rewriter;
use crate::{Epilogue, Graph, GraphError, Origin, Spread, Step, Value, downcast};

/// Operands a fused epilogue may have: with the inputs and outputs of the ops that take one, WebGPU's eight storage
/// buffers suffice.
const MAX_OPERANDS: usize = 3;

/// Fuses chains of elementwise nodes into their producers: first into products and the like, then into the first of
/// the chain.
///
/// A node is fused where it is the only reader of its producer, keeps the shape and type, and its other operand, if
/// any, spreads over the result in one of the ways that [`Spread`] knows. What joins two products fuses into the later
/// one, so that neither waits, with what it reads, for the other.
pub fn fuse_epilogues(graph: Graph) -> Result<Graph, GraphError> {
    let graph = fuse(graph, |node_is_elementwise| !node_is_elementwise)?;
    fuse(graph, |node_is_elementwise| node_is_elementwise)
}

fn fuse(graph: Graph, eligible: impl Fn(bool) -> bool) -> Result<Graph, GraphError> {
    let constant = graph.constants();
    let uses = graph.uses();
    let mut reader: Vec<Option<usize>> = vec![None; graph.values().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        for input in &node.inputs {
            reader[input.index()] = Some(i);
        }
    }
    let mut taken = vec![false; graph.nodes().len()];
    let mut rewriter = Rewriter::new(graph.clone());
    for (i, node) in graph.nodes().iter().enumerate() {
        let elementwise = is_elementwise(node.op.as_ref());
        let Some(&first) = node.outputs.first() else { continue };
        if taken[i] || !node.op.fuses_epilogue() || constant[first.index()] || !eligible(elementwise) {
            continue;
        }
        let (mut epilogue, mut inputs, mut last) = (node.epilogue.clone(), node.inputs.clone(), first);
        let mut fused: Vec<&String> = node.fused.iter().collect();
        while uses[last.index()] == 1
            && let Some(consumer) = reader[last.index()]
            && !taken[consumer]
            && let Some(step) = step_of(&graph, consumer, last, epilogue.operands())
        {
            let (step, operand) = step;
            if operand.is_some() && epilogue.operands() == MAX_OPERANDS {
                break;
            }
            let later = operand.and_then(|operand| producer(&graph, &uses, operand));
            if later.is_some_and(|later| later > i && !elementwise) {
                break;
            }
            epilogue.steps.push(step);
            inputs.extend(operand);
            taken[consumer] = true;
            let consumer = &graph.nodes()[consumer];
            fused.extend(consumer.fused.iter().chain([&consumer.path]));
            last = consumer.outputs[0];
        }
        if last != first {
            let outputs = rewriter.add(node.op.clone(), epilogue, &inputs, &node.path)?;
            rewriter.fused(outputs[0], fused);
            rewriter.replace(last, outputs[0]);
            for (old, new) in node.outputs.iter().zip(&outputs).skip(1) {
                rewriter.replace(*old, *new);
            }
        }
    }
    Ok(rewriter.finish())
}

fn is_elementwise(op: &dyn crate::Op) -> bool {
    downcast::<Unary>(op).is_some() || downcast::<Binary>(op).is_some()
}

/// The consumer as a step of its producer's epilogue, with its operand, where it can be one.
fn step_of(graph: &Graph, consumer: usize, value: Value, operands: usize) -> Option<(Step, Option<Value>)> {
    let node = graph.nodes().get(consumer)?;
    let desc = graph.desc(value);
    if !node.epilogue.is_empty() || graph.desc(*node.outputs.first()?) != desc || !desc.dtype.is_float() {
        return None;
    }
    if let Some(&function) = downcast::<Unary>(node.op.as_ref()) {
        return Some((Step::Unary(function), None));
    }
    let &function = downcast::<Binary>(node.op.as_ref())?;
    let &[left, right] = &node.inputs[..] else { return None };
    let swapped = right == value;
    let operand = if swapped { left } else { right };
    let other = graph.desc(operand);
    let spread = Spread::of(&other.shape, &desc.shape)?;
    (other.dtype == desc.dtype)
        .then_some((Step::Binary { function, operand: operands, spread, swapped }, Some(operand)))
}

/// The node, not an elementwise one, into which the chain that makes `value` fuses with room for one more operand, where it
/// does.
fn producer(graph: &Graph, uses: &[usize], mut value: Value) -> Option<usize> {
    let mut operands = 1;
    loop {
        let Origin::Node { node: index, .. } = graph.info(value).origin else { return None };
        let node = graph.nodes().get(index)?;
        if uses[value.index()] != 1 || operands > MAX_OPERANDS {
            return None;
        }
        if !is_elementwise(node.op.as_ref()) {
            let first = node.outputs.first() == Some(&value);
            return (first && node.epilogue.is_empty() && node.op.fuses_epilogue()).then_some(index);
        }
        let &first = node.inputs.first()?;
        operands += step_of(graph, index, first, 0)?.1.iter().count();
        value = first;
    }
}

const _: () = assert!(MAX_OPERANDS < Epilogue::MAX_OPERANDS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{run, worst_difference};
    use crate::{Builder, DType};

    fn fused_steps(graph: &Graph) -> Vec<usize> {
        graph.nodes().iter().map(|node| node.epilogue.steps.len()).collect()
    }

    /// Fuses, and checks that the numbers stay.
    fn fused(builder: Builder) -> Graph {
        let graph = builder.finish();
        let before = run(&graph);
        let after = fuse_epilogues(graph).unwrap();
        assert!(worst_difference(&before, &run(&after)) < 1e-6);
        after
    }

    #[test]
    fn bias_activation_and_residual_fuse_into_a_linear_layer() {
        let mut b = Builder::new();
        let x = b.input("x", [2, 5, 8], DType::F32).unwrap();
        let (w, bias) = (b.weight("w", [8, 8]).unwrap(), b.weight("b", [8]).unwrap());
        let y = b.linear(x, w, Some(bias)).unwrap();
        let y = b.unary(Unary::Gelu, y).unwrap();
        let y = b.add(x, y).unwrap();
        b.output("y", y).unwrap();
        assert_eq!(fused_steps(&fused(b)), [3]);
    }

    #[test]
    fn a_value_read_twice_is_not_fused_away() {
        let mut b = Builder::new();
        let x = b.input("x", [4, 8], DType::F32).unwrap();
        let w = b.weight("w", [8, 8]).unwrap();
        let y = b.linear(x, w, None).unwrap();
        let z = b.unary(Unary::Relu, y).unwrap();
        b.output("y", y).unwrap();
        b.output("z", z).unwrap();
        assert_eq!(fused_steps(&fused(b)), [0, 0]);
    }

    #[test]
    fn a_product_takes_its_activation_before_a_chain_does() {
        let mut b = Builder::new();
        let x = b.input("x", [4, 8], DType::F32).unwrap();
        let w = b.weight("w", [8, 8]).unwrap();
        let left = b.unary(Unary::Relu, x).unwrap();
        let right = b.linear(x, w, None).unwrap();
        let y = b.binary(Binary::Sub, left, right).unwrap();
        b.output("y", y).unwrap();
        let graph = fused(b);
        assert_eq!(fused_steps(&graph), [0, 1]);
    }

    #[test]
    fn broadcasting_that_changes_the_shape_is_not_fused() {
        let mut b = Builder::new();
        let x = b.input("x", [1, 8], DType::F32).unwrap();
        let other = b.input("other", [4, 8], DType::F32).unwrap();
        let w = b.weight("w", [8, 8]).unwrap();
        let y = b.linear(x, w, None).unwrap();
        let y = b.add(y, other).unwrap();
        b.output("y", y).unwrap();
        assert_eq!(fused_steps(&fused(b)), [0, 0]);
    }

    #[test]
    fn the_later_of_two_products_takes_their_sum() {
        let mut b = Builder::new();
        let x = b.input("x", [4, 8], DType::F32).unwrap();
        let product = |b: &mut Builder, name: &str| {
            let (w, bias) = (b.weight(name, [8, 8]).unwrap(), b.weight(&format!("{name}_b"), [8]).unwrap());
            let y = b.linear(x, w, None).unwrap();
            b.add(y, bias).unwrap()
        };
        let (left, right) = (product(&mut b, "left"), product(&mut b, "right"));
        let sum = b.add(left, right).unwrap();
        let y = b.unary(Unary::Relu, sum).unwrap();
        b.output("y", y).unwrap();
        assert_eq!(fused_steps(&fused(b)), [1, 3]);
    }

    #[test]
    fn operands_are_limited() {
        let mut b = Builder::new();
        let mut y = b.input("x", [4, 8], DType::F32).unwrap();
        for i in 0..6 {
            let other = b.input(format!("other{i}"), [4, 8], DType::F32).unwrap();
            y = b.mul(y, other).unwrap();
        }
        b.output("y", y).unwrap();
        assert_eq!(fused_steps(&fused(b)), [3, 1]);
    }
}
