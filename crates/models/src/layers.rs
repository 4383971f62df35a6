//! Layers that several models have, by the name of the module that holds their weights.

use kiln_graph::{Builder, GraphError, Value};

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
