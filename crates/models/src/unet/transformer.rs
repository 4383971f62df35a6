//! diffusers' `Transformer2DModel`: pixels look at each other and at the prompt.

use kiln_graph::ops::{AttentionLayout, AttentionOptions, Conv2d, ScaledDotProductAttention, Unary};
use kiln_graph::{Builder, GraphError, Value};

use super::config::{Attention, Config};
use crate::blocks::{conv2d, group_norm};
use crate::layers::{layer_norm, linear};

/// Added to the variances of the group norm, whatever those of the residual blocks have.
const GROUP_EPS: f32 = 1e-6;

/// Added to the variances of the layer norms.
const LAYER_EPS: f32 = 1e-5;

/// How much wider the perceptron is than its input.
const EXPANSION: usize = 4;

/// Keys, then values, of prompts `[batch, tokens, width]` for every attention to them: `[batch, tokens, 2 * channels]`.
pub(super) fn keys_and_values(
    config: &Config,
    b: &mut Builder,
    mut states: Value,
) -> Result<Vec<Value>, GraphError> {
    let crossings = config.crossings();
    if let (Some(_), Some(crossing)) = (config.encoder_hid_dim, crossings.first()) {
        states = linear(b, "encoder_hid_proj", states, crossing.tokens, true)?;
    }
    let one = |crossing: &super::layout::Crossing| {
        b.scope(&crossing.path, |b| {
            let key = b.weight("to_k.weight", [crossing.width, crossing.tokens])?;
            let value = b.weight("to_v.weight", [crossing.width, crossing.tokens])?;
            let both = b.concat(&[key, value], 0)?;
            b.linear(states, both, None)
        })
    };
    crossings.iter().map(one).collect()
}

/// A transformer on an image `[batch, height, width, channels]`, of so many layers, which take their keys and values of
/// the prompt from `prompt`.
pub(super) fn transformer(
    config: &Config,
    attention: &Attention,
    layers: usize,
    b: &mut Builder,
    x: Value,
    prompt: &mut dyn Iterator<Item = Value>,
) -> Result<Value, GraphError> {
    let image = b.shape(x).to_vec();
    let channels = b.desc(x).last();
    let pixels =
        [image.first().copied().unwrap_or(1), image.iter().skip(1).rev().skip(1).product(), channels];
    let y = group_norm(b, "norm", x, config.norm_num_groups, GROUP_EPS)?;
    let mut y = if config.use_linear_projection {
        let y = b.reshape(y, pixels)?;
        linear(b, "proj_in", y, channels, true)?
    } else {
        let y = conv2d(b, "proj_in", y, channels, 1, Conv2d::default())?;
        b.reshape(y, pixels)?
    };
    for i in 0..layers {
        y = b.scope(format!("transformer_blocks.{i}"), |b| layer(attention, b, y, prompt))?;
    }
    if config.use_linear_projection {
        let y = linear(b, "proj_out", y, channels, true)?;
        let x = b.reshape(x, pixels)?;
        let y = b.add(y, x)?;
        b.reshape(y, image)
    } else {
        let y = b.reshape(y, image)?;
        let y = conv2d(b, "proj_out", y, channels, 1, Conv2d::default())?;
        b.add(y, x)
    }
}

/// A pre-norm layer on `[batch, pixels, channels]`.
fn layer(
    attention: &Attention,
    b: &mut Builder,
    x: Value,
    prompt: &mut dyn Iterator<Item = Value>,
) -> Result<Value, GraphError> {
    let channels = b.desc(x).last();
    let y = layer_norm(b, "norm1", x, LAYER_EPS)?;
    let y = if attention.only_cross {
        cross_attention(b, "attn1", y, attention.heads, prompt)?
    } else {
        self_attention(b, "attn1", y, attention.heads)?
    };
    let x = b.add(y, x)?;
    let y = layer_norm(b, "norm2", x, LAYER_EPS)?;
    let y = cross_attention(b, "attn2", y, attention.heads, prompt)?;
    let x = b.add(y, x)?;
    let y = layer_norm(b, "norm3", x, LAYER_EPS)?;
    let y = linear(b, "ff.net.0.proj", y, 2 * EXPANSION * channels, true)?;
    let y = b.scope("ff.net.0", |b| b.gate(y, Unary::Gelu))?;
    let y = linear(b, "ff.net.2", y, channels, true)?;
    b.add(y, x)
}

fn self_attention(b: &mut Builder, module: &str, x: Value, heads: usize) -> Result<Value, GraphError> {
    let channels = b.desc(x).last();
    b.scope(module, |b| {
        let q = linear(b, "to_q", x, channels, false)?;
        let k = linear(b, "to_k", x, channels, false)?;
        let v = linear(b, "to_v", x, channels, false)?;
        let y = b.scaled_dot_product_attention(q, k, v, &AttentionOptions::heads(heads))?;
        linear(b, "to_out.0", y, channels, true)
    })
}

/// Attention to the next keys and values of the prompt.
fn cross_attention(
    b: &mut Builder,
    module: &str,
    x: Value,
    heads: usize,
    prompt: &mut dyn Iterator<Item = Value>,
) -> Result<Value, GraphError> {
    let channels = b.desc(x).last();
    b.scope(module, |b| {
        let missing = || GraphError::Value {
            what: "input",
            name: "prompt".into(),
            reason: format!("has no keys and values for {}", b.path()),
        };
        let both = prompt.next().ok_or_else(missing)?;
        let q = linear(b, "to_q", x, channels, false)?;
        let op = ScaledDotProductAttention {
            layout: AttentionLayout::PackedKeyValue,
            ..ScaledDotProductAttention::new(heads)
        };
        let y = b.op(op, &[q, both])?;
        linear(b, "to_out.0", y, channels, true)
    })
}
