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
pub(crate) mod original;
#[cfg(test)]
mod tests;

use kiln_graph::ops::Conv2d;
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::Config;

use crate::blocks::conv2d;
use crate::halves::{Halves, Names};
use crate::latents::{LOGVAR, Scaling};
use crate::weights::{Weights, check};
use crate::{Error, Taps};

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
        let moments = 2 * self.config.latent_channels;
        let x = self.halves().encode(b, image, moments, taps)?;
        let quantised = self.config.use_quant_conv;
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
        self.halves().decode(b, x, config.out_channels, taps)
    }

    fn halves(&self) -> Halves<'_> {
        let config = &self.config;
        Halves {
            stem: config.block_out_channels.first().copied().unwrap_or(1),
            widths: &config.block_out_channels,
            layers: config.layers_per_block,
            encoder_attention: &[],
            decoder_attention: &[],
            middle_attention: config.mid_block_add_attention,
            groups: config.norm_num_groups,
            act: config.act_fn,
            names: self.names,
        }
    }
}
