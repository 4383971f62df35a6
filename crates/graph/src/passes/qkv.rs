//! Queries, keys and values from one product.

use crate::ops::{AttentionLayout, Binary, Concat, Matmul, Reshape, ScaledDotProductAttention};
use crate::passes::Rewriter;
use crate::{Graph, GraphError, Tensor, TensorDesc, Value, downcast};

/// A linear layer with constant parameters that nobody but an attention reads.
#[derive(Clone, Copy, Debug)]
struct Projection<'a> {
    input: Value,
    weight: Value,
    bias: Option<Value>,
    path: &'a String,
}

/// Where an attention's queries, keys and values, or keys and values alone, come from linear layers on one input, makes
/// those one linear layer, whose result the attention reads in place.
pub fn fuse_qkv(graph: Graph) -> Result<Graph, GraphError> {
    let finder = Finder { constant: graph.constants(), uses: graph.uses(), graph: &graph };
    let mut rewriter = Rewriter::new(graph.clone());
    for node in graph.nodes() {
        let Some(op) = downcast::<ScaledDotProductAttention>(node.op.as_ref()) else { continue };
        let [q, k, v, rest @ ..] = &node.inputs[..] else { continue };
        if op.layout != AttentionLayout::Separate || !node.epilogue.is_empty() {
            continue;
        }
        let (Some(key), Some(value)) = (finder.projection(*k), finder.projection(*v)) else { continue };
        if key.input != value.input {
            continue;
        }
        let query = finder.projection(*q).filter(|query| query.input == key.input);
        let (layout, parts) = match query {
            Some(query) => (AttentionLayout::Packed, vec![query, key, value]),
            None => (AttentionLayout::PackedKeyValue, vec![key, value]),
        };
        let packed = merge(&mut rewriter, &graph, &parts, &node.path)?;
        let mut inputs = if layout == AttentionLayout::Packed { vec![packed] } else { vec![*q, packed] };
        inputs.extend(rest);
        let fused = ScaledDotProductAttention { layout, ..*op };
        // Head dimensions of values that differ from the keys' have no packed form.
        let Ok(result) = rewriter.op(fused, &inputs, &node.path) else { continue };
        let shape = graph.desc(node.outputs[0]).shape.clone();
        let result = rewriter.op(Reshape { shape }, &[result], &node.path)?;
        rewriter.replace(node.outputs[0], result);
    }
    Ok(rewriter.finish())
}

/// One linear layer whose outputs are those of several, side by side.
fn merge(
    rewriter: &mut Rewriter,
    graph: &Graph,
    parts: &[Projection<'_>],
    path: &str,
) -> Result<Value, GraphError> {
    let weights: Vec<Value> = parts.iter().map(|part| part.weight).collect();
    let weight = rewriter.op(Concat { axis: 0 }, &weights, path)?;
    let product = rewriter.op(Matmul { transpose_b: true }, &[parts[0].input, weight], path)?;
    rewriter.fused(product, parts.iter().map(|part| part.path));
    if parts.iter().all(|part| part.bias.is_none()) {
        return Ok(product);
    }
    let mut biases = Vec::new();
    for part in parts {
        biases.push(match part.bias {
            Some(bias) => bias,
            None => {
                let weight = graph.desc(part.weight);
                rewriter.constant(Tensor::zeros(&TensorDesc::new([weight.shape[0]], weight.dtype)))
            }
        });
    }
    let bias = rewriter.op(Concat { axis: 0 }, &biases, path)?;
    let sum = rewriter.op(Binary::Add, &[product, bias], path)?;
    rewriter.fused(sum, parts.iter().map(|part| part.path));
    Ok(sum)
}

struct Finder<'a> {
    graph: &'a Graph,
    constant: Vec<bool>,
    uses: Vec<usize>,
}

impl<'a> Finder<'a> {
    /// The node that computes a value which is read once.
    fn producer(&self, value: Value) -> Option<&'a crate::Node> {
        let crate::Origin::Node { node, output: 0 } = self.graph.info(value).origin else { return None };
        let node = self.graph.nodes().get(node)?;
        (self.uses[value.index()] == 1 && node.epilogue.is_empty()).then_some(node)
    }

    /// The linear layer behind a value: a product by a constant weight, perhaps a bias, perhaps reshapes into heads.
    fn projection(&self, value: Value) -> Option<Projection<'a>> {
        let mut node = self.producer(value)?;
        while downcast::<Reshape>(node.op.as_ref()).is_some() {
            let [input] = node.inputs[..] else { return None };
            // Only the last axis may be cut into heads.
            let (from, to) = (&self.graph.desc(input).shape, &self.graph.desc(node.outputs[0]).shape);
            if from.len() < 3 || to.len() < 3 || from[..2] != to[..2] {
                return None;
            }
            node = self.producer(input)?;
        }
        let mut bias = None;
        if downcast::<Binary>(node.op.as_ref()) == Some(&Binary::Add) {
            let [left, right] = node.inputs[..] else { return None };
            let (product, constant) = if self.constant[left.index()] { (right, left) } else { (left, right) };
            if !self.constant[constant.index()] || self.graph.desc(constant).rank() != 1 {
                return None;
            }
            bias = Some(constant);
            node = self.producer(product)?;
        }
        let product = downcast::<Matmul>(node.op.as_ref())?;
        let [input, weight] = node.inputs[..] else { return None };
        let (rows, weights) = (self.graph.desc(input), self.graph.desc(weight));
        let fits =
            product.transpose_b && self.constant[weight.index()] && weights.rank() == 2 && rows.rank() == 3;
        let whole = bias.is_none_or(|bias| self.graph.desc(bias).shape == weights.shape[..1]);
        (fits && whole).then_some(Projection { input, weight, bias, path: &node.path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::AttentionOptions;
    use crate::passes::testing::{run, worst_difference};
    use crate::{Builder, DType};

    /// Attention of `x` to `context`, with a bias for some of the projections.
    fn attention(cross: bool, biased: [bool; 3]) -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", [2, 5, 8], DType::F32).unwrap();
        let context = if cross { b.input("context", [2, 7, 8], DType::F32).unwrap() } else { x };
        let mut parts = Vec::new();
        for (i, (name, biased)) in ["q", "k", "v"].into_iter().zip(biased).enumerate() {
            let w = b.weight(name, [8, 8]).unwrap();
            let bias = biased.then(|| b.weight(&format!("{name}.bias"), [8]).unwrap());
            parts.push(b.linear(if i == 0 { x } else { context }, w, bias).unwrap());
        }
        let y = b
            .scaled_dot_product_attention(parts[0], parts[1], parts[2], &AttentionOptions::heads(2))
            .unwrap();
        b.output("y", y).unwrap();
        b.finish()
    }

    fn products(graph: &Graph) -> usize {
        let constant = graph.constants();
        let live = |node: &&crate::Node| !constant[node.outputs[0].index()];
        graph.nodes().iter().filter(live).filter(|node| node.op.name() == "matmul").count()
    }

    #[test]
    fn self_attention_takes_one_product() {
        for biased in [[true; 3], [false; 3], [true, false, true]] {
            let graph = attention(false, biased);
            let before = run(&graph);
            let fused = fuse_qkv(graph).unwrap();
            assert_eq!(products(&fused), 1);
            assert!(worst_difference(&before, &run(&fused)) < 1e-6);
        }
    }

    #[test]
    fn cross_attention_takes_one_product_for_keys_and_values() {
        let graph = attention(true, [true; 3]);
        let before = run(&graph);
        let fused = fuse_qkv(graph).unwrap();
        assert_eq!(products(&fused), 2);
        assert!(worst_difference(&before, &run(&fused)) < 1e-6);
    }

    #[test]
    fn projections_that_others_read_stay() {
        let mut b = Builder::new();
        let x = b.input("x", [1, 4, 8], DType::F32).unwrap();
        let w = b.weight("w", [8, 8]).unwrap();
        let shared = b.linear(x, w, None).unwrap();
        let y = b.scaled_dot_product_attention(shared, shared, shared, &AttentionOptions::heads(2)).unwrap();
        b.output("y", y).unwrap();
        let fused = fuse_qkv(b.finish()).unwrap();
        assert!(fused.nodes().iter().any(|node| node.inputs.len() == 3));
    }
}
