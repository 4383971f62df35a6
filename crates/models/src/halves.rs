//! The encoder and the decoder that latent diffusion's autoencoders have in common, those with a codebook and those
//! without (`Encoder` and `Decoder` of diffusers' `models/autoencoders/vae.py`).

mod names;

use kiln_graph::ops::{AttentionOptions, Unary};
use kiln_graph::{Builder, GraphError, Value};

use crate::Taps;
use crate::blocks::{Style, conv3x3, downsample, group_norm, resnet_block};

pub(crate) use names::Names;

/// Added to the variances of all norms.
const EPS: f32 = 1e-6;

/// Sizes of both halves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves<'a> {
    /// Channels behind the encoder's first convolution.
    pub stem: usize,
    /// Channels of each block, outermost first. Every block but the last halves the image's sides.
    pub widths: &'a [usize],
    /// Residual blocks of a block of the encoder; the decoder's have one more.
    pub layers: usize,
    /// Whether an attention follows each residual block of an encoder's block, outermost first. None where it is shorter.
    pub encoder_attention: &'a [bool],
    /// The same for the decoder's blocks, innermost first.
    pub decoder_attention: &'a [bool],
    /// Whether there is an attention in the middle of each half.
    pub middle_attention: bool,
    /// Groups of every norm.
    pub groups: usize,
    /// The activation within residual blocks.
    pub act: Unary,
    /// The attentions' names.
    pub names: Names,
}

impl Halves<'_> {
    /// The encoder: images `[batch, height, width, channels]` to `[batch, height / f, width / f, outputs]`, where f is 2 to
    /// the power of all blocks but one. Taps: `enc_down<i>`, also called `enc_level<i>`, behind each block,
    /// `enc_attn_level` behind the last that has attentions, `enc_mid_attn`, `enc_mid`.
    pub fn encode(
        &self,
        b: &mut Builder,
        image: Value,
        outputs: usize,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        b.scope("encoder", |b| {
            let legacy = self.names.legacy_encoder;
            let innermost = self.encoder_attention.iter().rposition(|&attends| attends);
            let mut x = conv3x3(b, "conv_in", image, self.stem)?;
            for (i, &channels) in self.widths.iter().enumerate() {
                x = b.scope(format!("down_blocks.{i}"), |b| {
                    let attends = self.encoder_attention.get(i) == Some(&true);
                    x = self.block(b, x, channels, self.layers, attends, legacy)?;
                    let last = i + 1 == self.widths.len();
                    if last { Ok(x) } else { downsample(b, "downsamplers.0", x, channels, 0) }
                })?;
                taps.tap(b, &format!("enc_down{i}"), x)?;
                taps.tap(b, &format!("enc_level{i}"), x)?;
                if Some(i) == innermost {
                    taps.tap(b, "enc_attn_level", x)?;
                }
            }
            x = self.middle(b, x, "enc", legacy, taps)?;
            self.out(b, x, outputs)
        })
    }

    /// The decoder: `[batch, height, width, channels]` to images `[batch, height * f, width * f, outputs]`. Taps:
    /// `dec_mid_attn`, `dec_mid`, `dec_up<i>` behind each block.
    pub fn decode(
        &self,
        b: &mut Builder,
        x: Value,
        outputs: usize,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        b.scope("decoder", |b| {
            let legacy = self.names.legacy_decoder;
            let mut x = conv3x3(b, "conv_in", x, self.widths.last().copied().unwrap_or(1))?;
            x = self.middle(b, x, "dec", legacy, taps)?;
            for (i, &channels) in self.widths.iter().rev().enumerate() {
                x = b.scope(format!("up_blocks.{i}"), |b| {
                    let attends = self.decoder_attention.get(i) == Some(&true);
                    x = self.block(b, x, channels, self.layers + 1, attends, legacy)?;
                    if i + 1 == self.widths.len() {
                        return Ok(x);
                    }
                    let large = b.upsample_nearest_2x(x)?;
                    conv3x3(b, "upsamplers.0.conv", large, channels)
                })?;
                taps.tap(b, &format!("dec_up{i}"), x)?;
            }
            self.out(b, x, outputs)
        })
    }

    /// The residual blocks of a block, each with an attention behind it or none.
    fn block(
        &self,
        b: &mut Builder,
        mut x: Value,
        channels: usize,
        count: usize,
        attends: bool,
        legacy: bool,
    ) -> Result<Value, GraphError> {
        for layer in 0..count {
            x = self.resnet(b, &format!("resnets.{layer}"), x, channels)?;
            if attends {
                x = b.scope(format!("attentions.{layer}"), |b| self.attention(b, x, legacy))?;
            }
        }
        Ok(x)
    }

    fn resnet(&self, b: &mut Builder, module: &str, x: Value, channels: usize) -> Result<Value, GraphError> {
        let style = Style { groups: self.groups, eps: EPS, act: self.act };
        resnet_block(b, module, x, channels, None, style)
    }

    /// Two residual blocks, and between them an attention over all pixels.
    fn middle(
        &self,
        b: &mut Builder,
        x: Value,
        half: &str,
        legacy: bool,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let channels = b.desc(x).last();
        let x = b.scope("mid_block", |b| {
            let mut x = self.resnet(b, "resnets.0", x, channels)?;
            if self.middle_attention {
                x = b.scope("attentions.0", |b| self.attention(b, x, legacy))?;
                taps.tap(b, &format!("{half}_mid_attn"), x)?;
            }
            self.resnet(b, "resnets.1", x, channels)
        })?;
        taps.tap(b, &format!("{half}_mid"), x)?;
        Ok(x)
    }

    /// Attention of one head among the pixels of `x` `[batch, height, width, channels]`, which is added to it.
    fn attention(&self, b: &mut Builder, x: Value, legacy: bool) -> Result<Value, GraphError> {
        let (shape, channels) = (b.shape(x).to_vec(), b.desc(x).last());
        let (batch, pixels) = match shape[..] {
            [batch, height, width, _] => (batch, height * width),
            _ => (0, 0),
        };
        let [norm, q, k, v, out] = Names::attention(legacy);
        let normed = group_norm(b, norm, x, self.groups, EPS)?;
        let normed = b.reshape(normed, [batch, pixels, channels])?;
        let linear = |b: &mut Builder, module: &str, x: Value| {
            b.scope(module, |b| {
                let mut weight = b.weight("weight", self.names.square(channels))?;
                if self.names.convolutions {
                    weight = b.reshape(weight, [channels, channels])?;
                }
                let bias = b.weight("bias", [channels])?;
                b.linear(x, weight, Some(bias))
            })
        };
        let q = linear(b, q, normed)?;
        let k = linear(b, k, normed)?;
        let v = linear(b, v, normed)?;
        let attended = b.scaled_dot_product_attention(q, k, v, &AttentionOptions::heads(1))?;
        let attended = linear(b, out, attended)?;
        let residual = b.reshape(x, [batch, pixels, channels])?;
        let y = b.add(attended, residual)?;
        b.reshape(y, shape)
    }

    /// What follows the last block of either half.
    fn out(&self, b: &mut Builder, x: Value, channels: usize) -> Result<Value, GraphError> {
        let x = group_norm(b, "conv_norm_out", x, self.groups, EPS)?;
        let x = b.silu(x)?;
        conv3x3(b, "conv_out", x, channels)
    }
}
