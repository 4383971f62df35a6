//! The autoencoder of latent diffusion: "High-Resolution Image Synthesis with Latent Diffusion Models" (Rombach et al.
//! 2021, <https://arxiv.org/abs/2112.10752>), whose latents a diffusion model draws and whose decoder makes pictures of
//! them.
//!
//! Reads diffusers' `AutoencoderKL`, with the names that it gives the attention in the middle and with those of published
//! files (`query`, `key`, `value`, `proj_attn`). Encoding takes `image` `[batch, height, width, in_channels]` in -1..1
//! and gives `moments` `[batch, height / f, width / f, 2 * latent_channels]`, and of them `mean`, `logvar` (kept within
//! -30..20) and `std`, half as wide, of a normal distribution. Decoding takes `latents` `[batch, height, width,
//! latent_channels]` of that distribution, not scaled for a diffusion model, and gives `image`. `f` is
//! [`Autoencoder::spatial_factor`].

mod config;
mod names;
pub(crate) mod original;
#[cfg(test)]
mod tests;

use kiln_graph::ops::{AttentionOptions, Conv2d};
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::Config;
use names::Names;

use crate::blocks::{Style, conv2d, conv3x3, downsample, group_norm, resnet_block};
use crate::latents::{LOGVAR, Scaling};
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// Added to the variances of all norms.
const EPS: f32 = 1e-6;

/// An autoencoder: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct Autoencoder {
    config: Config,
    names: Names,
}

impl Autoencoder {
    /// The autoencoder that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        config.fit(weights);
        let model = Self { config: config.checked()?, names: Names::of(weights) };
        check(&model.whole()?, weights, &|_| false)?;
        Ok(model)
    }

    /// Both halves as one small graph, which shows all that the model wants.
    fn whole(&self) -> Result<Graph, Error> {
        let (mut b, side) = (Builder::new(), self.spatial_factor());
        self.encode_in(&mut b, 1, [side; 2], &Taps::none())?;
        self.decode_in(&mut b, 1, [1; 2], &Taps::none())?;
        Ok(b.finish())
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many pixels of an image, along each side, become one of the latents.
    pub fn spatial_factor(&self) -> usize {
        1 << self.config.block_out_channels.len().saturating_sub(1)
    }

    /// How latents are scaled for a diffusion model.
    pub fn scaling(&self) -> &Scaling {
        &self.config.scaling
    }

    /// The graph that encodes images of `[height, width]` pixels. Taps: `enc_down<i>` behind each block, `enc_mid_attn`,
    /// `enc_mid`. [`Error::Input`] where no pixel of the latents is left of such images.
    pub fn encode_graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        let factor = self.spatial_factor();
        if batch == 0 || size.iter().any(|&side| side < factor) {
            let [height, width] = size;
            return Err(Error::Input(format!(
                "{batch} images of {height}x{width} pixels cannot be encoded: they have to be {factor}x{factor} at least"
            )));
        }
        let mut b = Builder::new();
        self.encode_in(&mut b, batch, size, taps)?;
        Ok(b.finish())
    }

    fn encode_in(
        &self,
        b: &mut Builder,
        batch: usize,
        size: [usize; 2],
        taps: &Taps,
    ) -> Result<(), GraphError> {
        let image = b.input("image", [batch, size[0], size[1], self.config.in_channels], DType::F32)?;
        let moments = self.encode(b, image, taps)?;
        b.output("moments", moments)?;
        let latent = self.config.latent_channels;
        let mean = b.slice(moments, 3, 0, latent)?;
        b.output("mean", mean)?;
        let logvar = b.slice(moments, 3, latent, 2 * latent)?;
        let logvar = b.clamp(logvar, LOGVAR[0], LOGVAR[1])?;
        b.output("logvar", logvar)?;
        let half = b.affine(logvar, 0.5, 0.0)?;
        let std = b.exp(half)?;
        b.output("std", std)
    }

    /// The graph that decodes latents of `[height, width]` pixels. Taps: `dec_mid_attn`, `dec_mid`, `dec_up<i>` behind each
    /// block. [`Error::Input`] where there is nothing to decode.
    pub fn decode_graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        if batch == 0 || size.contains(&0) {
            return Err(Error::Input(format!("{batch} latents of {}x{} hold nothing", size[0], size[1])));
        }
        let mut b = Builder::new();
        self.decode_in(&mut b, batch, size, taps)?;
        Ok(b.finish())
    }

    fn decode_in(
        &self,
        b: &mut Builder,
        batch: usize,
        size: [usize; 2],
        taps: &Taps,
    ) -> Result<(), GraphError> {
        let shape = [batch, size[0], size[1], self.config.latent_channels];
        let latents = b.input("latents", shape, DType::F32)?;
        let image = self.decode(b, latents, taps)?;
        b.output("image", image)
    }

    /// The moments of images, within a larger graph: `[batch, height, width, in_channels]` to
    /// `[batch, height / f, width / f, 2 * latent_channels]`, means before the logarithms of variances.
    pub fn encode(&self, b: &mut Builder, image: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let moments = 2 * config.latent_channels;
        let x = b.scope("encoder", |b| {
            let widths = &config.block_out_channels;
            let mut x = conv3x3(b, "conv_in", image, widths.first().copied().unwrap_or(1))?;
            for (i, &channels) in widths.iter().enumerate() {
                x = b.scope(format!("down_blocks.{i}"), |b| {
                    for layer in 0..config.layers_per_block {
                        x = self.resnet(b, &format!("resnets.{layer}"), x, channels)?;
                    }
                    let last = i + 1 == widths.len();
                    if last { Ok(x) } else { downsample(b, "downsamplers.0", x, channels, 0) }
                })?;
                taps.tap(b, &format!("enc_down{i}"), x)?;
            }
            x = self.middle(b, x, "enc", self.names.legacy_encoder, taps)?;
            self.out(b, x, moments)
        })?;
        let quantised = config.use_quant_conv;
        if quantised { conv2d(b, "quant_conv", x, moments, 1, Conv2d::default()) } else { Ok(x) }
    }

    /// The images of latents, within a larger graph: `[batch, height, width, latent_channels]` to
    /// `[batch, height * f, width * f, out_channels]`.
    pub fn decode(&self, b: &mut Builder, latents: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let mut x = latents;
        if config.use_post_quant_conv {
            x = conv2d(b, "post_quant_conv", x, config.latent_channels, 1, Conv2d::default())?;
        }
        b.scope("decoder", |b| {
            let widths = &config.block_out_channels;
            x = conv3x3(b, "conv_in", x, widths.last().copied().unwrap_or(1))?;
            x = self.middle(b, x, "dec", self.names.legacy_decoder, taps)?;
            for (i, &channels) in widths.iter().rev().enumerate() {
                x = b.scope(format!("up_blocks.{i}"), |b| {
                    for layer in 0..config.layers_per_block + 1 {
                        x = self.resnet(b, &format!("resnets.{layer}"), x, channels)?;
                    }
                    if i + 1 == widths.len() {
                        return Ok(x);
                    }
                    let large = b.upsample_nearest_2x(x)?;
                    conv3x3(b, "upsamplers.0.conv", large, channels)
                })?;
                taps.tap(b, &format!("dec_up{i}"), x)?;
            }
            self.out(b, x, config.out_channels)
        })
    }

    fn resnet(&self, b: &mut Builder, module: &str, x: Value, channels: usize) -> Result<Value, GraphError> {
        let style = Style { groups: self.config.norm_num_groups, eps: EPS, act: self.config.act_fn };
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
            if self.config.mid_block_add_attention {
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
        let normed = group_norm(b, norm, x, self.config.norm_num_groups, EPS)?;
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
        let x = group_norm(b, "conv_norm_out", x, self.config.norm_num_groups, EPS)?;
        let x = b.silu(x)?;
        conv3x3(b, "conv_out", x, channels)
    }
}
