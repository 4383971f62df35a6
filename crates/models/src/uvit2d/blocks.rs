//! The outer stages: convolutions, and attention to the prompt.

use kiln_graph::ops::Conv2d;
use kiln_graph::{Builder, GraphError, Value};

use super::config::Config;
use super::transformer::attention;
use super::{modulate, rms_norm};
use crate::Taps;
use crate::layers::linear;

/// How much wider the perceptron of a residual block is than its input.
const EXPANSION: usize = 4;

/// Added to the mean squares of the attentions' norms, whatever those of the others have.
const EPS: f32 = 1e-6;

/// Added to the mean of the lengths in a global response norm.
const RESPONSE_EPS: f32 = 1e-6;

/// The blocks of the stage `down` or `up` on `x` `[batch, height, width, channels]`.
pub(super) fn stage(
    config: &Config,
    b: &mut Builder,
    name: &str,
    mut x: Value,
    cond: Value,
    states: Value,
    taps: &Taps,
) -> Result<Value, GraphError> {
    b.scope(format!("{name}_block"), |b| {
        for i in 0..config.num_res_blocks {
            x = b.scope(format!("res_blocks.{i}"), |b| residual(config, b, x, cond))?;
            taps.tap(b, &format!("{name}_res{i}"), x)?;
            let image = b.shape(x).to_vec();
            let pixels = b.flatten(x, 1, 2)?;
            let pixels =
                b.scope(format!("attention_blocks.{i}"), |b| to_prompt(config, b, pixels, states))?;
            taps.tap(b, &format!("{name}_attn{i}"), pixels)?;
            x = b.reshape(pixels, image)?;
        }
        Ok(x)
    })
}

/// A block of ConvNeXt V2 (Woo et al. 2023, <https://arxiv.org/abs/2301.00808>), scaled and shifted by what holds for the
/// whole picture.
fn residual(config: &Config, b: &mut Builder, x: Value, cond: Value) -> Result<Value, GraphError> {
    let (channels, bias) = (config.block_out_channels, config.use_bias);
    let y = b.scope("depthwise", |b| {
        let weight = b.weight("weight", [channels, 1, 3, 3])?;
        let bias = if bias { Some(b.weight("bias", [channels])?) } else { None };
        b.conv2d(x, weight, bias, Conv2d::default().padding(1).groups(channels))
    })?;
    let y = rms_norm(b, "norm", y, config.ln_elementwise_affine, config.layer_norm_eps)?;
    let y = linear(b, "channelwise_linear_1", y, EXPANSION * channels, bias)?;
    let y = b.gelu(y)?;
    let y = b.scope("channelwise_norm", |b| response_norm(b, y))?;
    let y = linear(b, "channelwise_linear_2", y, channels, bias)?;
    let y = b.add(y, x)?;
    let both = linear(b, "cond_embeds_mapper", cond, 2 * channels, bias)?;
    modulate(b, y, both)
}

/// ConvNeXt V2's global response norm of `x` `[batch, height, width, channels]`: each channel by its length over the image,
/// as a share of the channels' mean length.
fn response_norm(b: &mut Builder, x: Value) -> Result<Value, GraphError> {
    let channels = b.desc(x).last();
    let pixels: usize = b.shape(x).iter().skip(1).take(2).product();
    let squares = b.mul(x, x)?;
    // Of mean squares and not of sums, which f16 might not hold.
    let squares = b.mean(squares, [1, 2], true)?;
    let lengths = b.sqrt(squares)?;
    let mean = b.mean(lengths, [3], true)?;
    let mean = b.affine(mean, 1.0, RESPONSE_EPS / (pixels as f32).sqrt())?;
    let share = b.div(lengths, mean)?;
    let gamma = b.weight("gamma", [1, 1, 1, channels])?;
    let beta = b.weight("beta", [1, 1, 1, channels])?;
    let factor = b.mul(share, gamma)?;
    let factor = b.affine(factor, 1.0, 1.0)?;
    let y = b.mul(x, factor)?;
    b.add(y, beta)
}

/// diffusers' `SkipFFTransformerBlock` on `x` `[batch, pixels, channels]`: two attentions to the prompt.
fn to_prompt(config: &Config, b: &mut Builder, mut x: Value, states: Value) -> Result<Value, GraphError> {
    let (channels, bias) = (config.block_out_channels, config.use_bias);
    let states = if config.hidden_size == channels {
        states
    } else {
        let states = b.silu(states)?;
        linear(b, "kv_mapper", states, channels, bias)?
    };
    for i in 1..=2 {
        let y = rms_norm(b, &format!("norm{i}"), x, true, EPS)?;
        let y = attention(b, &format!("attn{i}"), y, states, config.block_num_heads, bias)?;
        x = b.add(y, x)?;
    }
    Ok(x)
}
