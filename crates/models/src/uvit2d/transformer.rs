//! The inner layers: diffusers' `BasicTransformerBlock` with norms that follow what holds for the whole picture.

use kiln_graph::ops::{AttentionOptions, Unary};
use kiln_graph::{Builder, GraphError, Value};

use super::config::Config;
use super::{modulate, rms_norm};
use crate::layers::linear;

/// A pre-norm layer on `x` `[batch, pixels, hidden_size]`: self-attention, attention to the prompt, and a perceptron.
pub(super) fn layer(
    config: &Config,
    b: &mut Builder,
    x: Value,
    cond: Value,
    states: Value,
) -> Result<Value, GraphError> {
    let (heads, bias) = (config.num_attention_heads, config.use_bias);
    let normed = adaptive(config, b, "norm1", x, cond, |b, x| {
        rms_norm(b, "norm", x, config.ln_elementwise_affine, config.layer_norm_eps)
    })?;
    let y = attention(b, "attn1", normed, normed, heads, bias)?;
    let x = b.add(y, x)?;
    let normed = adaptive(config, b, "norm2", x, cond, |b, x| {
        rms_norm(b, "norm", x, config.ln_elementwise_affine, config.layer_norm_eps)
    })?;
    let y = attention(b, "attn2", normed, states, heads, bias)?;
    let x = b.add(y, x)?;
    let normed = adaptive(config, b, "norm3", x, cond, |b, x| centred(config, b, x))?;
    let y = linear(b, "ff.net.0.proj", normed, 2 * config.intermediate_size, bias)?;
    let y = b.scope("ff.net.0", |b| b.gate(y, Unary::Gelu))?;
    let y = linear(b, "ff.net.2", y, config.hidden_size, bias)?;
    b.add(y, x)
}

/// diffusers' `AdaLayerNormContinuous`: a norm, and a scale and a shift that are linear in `cond` `[batch, hidden_size]`.
fn adaptive(
    config: &Config,
    b: &mut Builder,
    module: &str,
    x: Value,
    cond: Value,
    norm: impl FnOnce(&mut Builder, Value) -> Result<Value, GraphError>,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let both = linear(b, "linear", cond, 2 * config.hidden_size, config.use_bias)?;
        let x = norm(b, x)?;
        modulate(b, x, both)
    })
}

/// The perceptron's norm, the only one that takes off the mean.
fn centred(config: &Config, b: &mut Builder, x: Value) -> Result<Value, GraphError> {
    b.scope("norm", |b| {
        let (affine, width) = (config.ln_elementwise_affine, config.hidden_size);
        let weight = if affine { Some(b.weight("weight", [width])?) } else { None };
        let bias = if affine && config.use_bias { Some(b.weight("bias", [width])?) } else { None };
        b.layer_norm(x, weight, bias, config.layer_norm_eps)
    })
}

/// Attention of `x` `[batch, pixels, channels]` to `states` `[batch, length, width]`.
pub(super) fn attention(
    b: &mut Builder,
    module: &str,
    x: Value,
    states: Value,
    heads: usize,
    bias: bool,
) -> Result<Value, GraphError> {
    let channels = b.desc(x).last();
    b.scope(module, |b| {
        let q = linear(b, "to_q", x, channels, bias)?;
        let k = linear(b, "to_k", states, channels, bias)?;
        let v = linear(b, "to_v", states, channels, bias)?;
        let y = b.scaled_dot_product_attention(q, k, v, &AttentionOptions::heads(heads))?;
        linear(b, "to_out.0", y, channels, bias)
    })
}
