//! Batch norms folded into the convolutions before them.

use crate::ops::{BatchNorm, Binary, Conv2d, ConvTranspose2d, Reshape, Unary};
use crate::passes::Rewriter;
use crate::{Graph, GraphError, Node, Origin, Value, downcast};

/// A batch norm with constant parameters behind a convolution with a constant weight (and perhaps bias) scales that
/// weight and shifts that bias: `(conv(x, w) + b - mean) s + beta = conv(x, w s) + (b - mean) s + beta`, with
/// `s = gamma / sqrt(variance + eps)`.
pub fn fold_batch_norm(graph: Graph) -> Result<Graph, GraphError> {
    let (constant, uses) = (graph.constants(), graph.uses());
    let producer = |value: Value| -> Option<&Node> {
        let Origin::Node { node, output: 0 } = graph.info(value).origin else { return None };
        (uses[value.index()] == 1).then(|| graph.nodes().get(node)).flatten()
    };
    let mut rewriter = Rewriter::new(graph.clone());
    for node in graph.nodes() {
        let Some(&norm) = downcast::<BatchNorm>(node.op.as_ref()) else { continue };
        let [x, mean, variance, ref affine @ ..] = node.inputs[..] else { continue };
        let parameters = [mean, variance];
        if !node.epilogue.is_empty() || !parameters.iter().chain(affine).all(|value| constant[value.index()])
        {
            continue;
        }
        let Some(mut behind) = producer(x) else { continue };
        let mut bias = None;
        if downcast::<Binary>(behind.op.as_ref()) == Some(&Binary::Add) && behind.epilogue.is_empty() {
            let [product, addend] = behind.inputs[..] else { continue };
            if !constant[addend.index()] || graph.desc(addend).shape != graph.desc(mean).shape {
                continue;
            }
            bias = Some(addend);
            let Some(conv) = producer(product) else { continue };
            behind = conv;
        }
        let Some(outputs) = output_axis(behind) else { continue };
        let [input, weight] = behind.inputs[..] else { continue };
        if !constant[weight.index()] || !behind.epilogue.is_empty() {
            continue;
        }
        let gamma = affine.first().filter(|_| norm.weight);
        let beta = affine.last().filter(|_| norm.bias);
        let path = &behind.path;
        let spread = Unary::Affine { scale: 1.0, offset: norm.eps };
        let spread = rewriter.op(spread, &[variance], path)?;
        let mut scale = rewriter.op(Unary::Rsqrt, &[spread], path)?;
        if let Some(&gamma) = gamma {
            scale = rewriter.op(Binary::Mul, &[scale, gamma], path)?;
        }
        let mut shape = vec![1; 4];
        shape[outputs] = graph.desc(mean).len();
        let column = rewriter.op(Reshape { shape }, &[scale], path)?;
        let weight = rewriter.op(Binary::Mul, &[weight, column], path)?;
        let mut shift = match bias {
            Some(bias) => rewriter.op(Binary::Sub, &[bias, mean], path)?,
            None => rewriter.op(Unary::Neg, &[mean], path)?,
        };
        shift = rewriter.op(Binary::Mul, &[shift, scale], path)?;
        if let Some(&beta) = beta {
            shift = rewriter.op(Binary::Add, &[shift, beta], path)?;
        }
        let product = rewriter.shared_op(behind.op.clone(), &[input, weight], path)?;
        let result = rewriter.op(Binary::Add, &[product, shift], path)?;
        rewriter.fused(product, [&node.path]);
        rewriter.fused(result, [&node.path]);
        rewriter.replace(node.outputs[0], result);
    }
    Ok(rewriter.finish())
}

/// Along which axis the weight of a convolution has its outputs; nothing where that is none, or the node no convolution.
fn output_axis(node: &Node) -> Option<usize> {
    if downcast::<Conv2d>(node.op.as_ref()).is_some() {
        return Some(0);
    }
    // With groups, outputs of several groups share a row.
    downcast::<ConvTranspose2d>(node.op.as_ref()).filter(|conv| conv.groups == 1).map(|_| 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{run, worst_difference};
    use crate::{Builder, DType};

    fn graph(conv_bias: bool, affine: bool, also_read: bool) -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", [1, 5, 6, 4], DType::F32).unwrap();
        let w = b.weight("w", [8, 4, 3, 3]).unwrap();
        let bias = conv_bias.then(|| b.weight("bias", [8]).unwrap());
        let y = b.conv2d(x, w, bias, Conv2d::default()).unwrap();
        let mut parameter = |name: &str| b.weight(name, [8]).unwrap();
        let (mean, variance) = (parameter("mean"), parameter("variance"));
        let (gamma, beta) = (affine.then(|| parameter("gamma")), affine.then(|| parameter("beta")));
        let z = b.batch_norm(y, gamma, beta, mean, variance, 1e-5).unwrap();
        b.output("z", z).unwrap();
        if also_read {
            b.output("y", y).unwrap();
        }
        b.finish()
    }

    fn transposed(groups: usize) -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", [1, 5, 6, 4], DType::F32).unwrap();
        let w = b.weight("w", [4, 8 / groups, 3, 3]).unwrap();
        let y = b.conv_transpose2d(x, w, None, ConvTranspose2d::default().stride(2).groups(groups)).unwrap();
        let mut parameter = |name: &str| b.weight(name, [8]).unwrap();
        let [mean, variance, gamma, beta] = ["mean", "variance", "gamma", "beta"].map(&mut parameter);
        let z = b.batch_norm(y, Some(gamma), Some(beta), mean, variance, 1e-5).unwrap();
        b.output("z", z).unwrap();
        b.finish()
    }

    fn norms(graph: &Graph) -> usize {
        graph.nodes().iter().filter(|node| node.op.name() == "batch_norm").count()
    }

    #[test]
    fn norms_fold_with_and_without_bias_and_affine() {
        for (conv_bias, affine) in [(false, true), (true, true), (true, false), (false, false)] {
            let graph = graph(conv_bias, affine, false);
            let before = run(&graph);
            let folded = fold_batch_norm(graph).unwrap();
            assert_eq!(norms(&folded), 0);
            assert!(worst_difference(&before, &run(&folded)) < 1e-5);
        }
    }

    #[test]
    fn norms_fold_into_transposed_convolutions_without_groups() {
        let before = run(&transposed(1));
        let folded = fold_batch_norm(transposed(1)).unwrap();
        assert_eq!(norms(&folded), 0);
        assert!(worst_difference(&before, &run(&folded)) < 1e-5);
        assert_eq!(norms(&fold_batch_norm(transposed(2)).unwrap()), 1);
    }

    #[test]
    fn a_convolution_that_others_read_keeps_its_norm() {
        assert_eq!(norms(&fold_batch_norm(graph(false, true, true)).unwrap()), 1);
    }
}
