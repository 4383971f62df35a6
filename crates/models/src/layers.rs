//! Layers that several models have, by the name of the module that holds their weights.

use kiln_graph::ops::Unary;
use kiln_graph::{Builder, GraphError, Tensor, Value};

/// The linear layer whose weights are `module`'s: `x` `[..., inputs]` to `[..., outputs]`.
pub(crate) fn linear(
    b: &mut Builder,
    module: &str,
    x: Value,
    outputs: usize,
    bias: bool,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let weight = b.weight("weight", [outputs, b.desc(x).last()])?;
        let bias = if bias { Some(b.weight("bias", [outputs])?) } else { None };
        b.linear(x, weight, bias)
    })
}

/// The layer norm over the last axis whose weights are `module`'s.
pub(crate) fn layer_norm(b: &mut Builder, module: &str, x: Value, eps: f32) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let channels = b.desc(x).last();
        let (weight, bias) = (b.weight("weight", [channels])?, b.weight("bias", [channels])?);
        b.layer_norm(x, Some(weight), Some(bias), eps)
    })
}

/// Scores of scaled dot-product attention where they are wanted themselves, before any softmax: queries `[batch, n,
/// heads * size]` and keys `[batch, m, heads * size]` to `[batch, heads, n, m]`.
pub(crate) fn attention_scores(
    b: &mut Builder,
    q: Value,
    k: Value,
    heads: usize,
) -> Result<Value, GraphError> {
    let size = b.desc(q).last() / heads.max(1);
    let split = |b: &mut Builder, x: Value, order: [usize; 4]| {
        let (batch, length) = match *b.shape(x) {
            [batch, length, _] => (batch, length),
            _ => (0, 0),
        };
        let x = b.reshape(x, [batch, length, heads, size])?;
        b.permute(x, order)
    };
    let q = b.unary(Unary::Affine { scale: 1.0 / (size as f32).sqrt(), offset: 0.0 }, q)?;
    let q = split(b, q, [0, 2, 1, 3])?;
    let k = split(b, k, [0, 2, 3, 1])?;
    b.matmul(q, k)
}

/// A score that no softmax sees.
const HIDDEN: f32 = -3.0e38;

/// Scores with those of keys that are not to be seen so low that a softmax gives them nothing.
pub(crate) fn masked(b: &mut Builder, scores: Value, mask: Option<Value>) -> Result<Value, GraphError> {
    let Some(mask) = mask else { return Ok(scores) };
    let hidden = b.constant(Tensor::scalar(HIDDEN));
    b.select(mask, scores, hidden)
}
