//! The tiny autoencoder, TAESD: a small stand-in for latent diffusion's autoencoders, distilled of them
//! (<https://github.com/madebyollin/taesd>).
//!
//! Reads diffusers' `AutoencoderTiny`. Encoding takes `image` `[batch, height, width, in_channels]` in -1..1 and gives
//! `latents` `[batch, height / f, width / f, latent_channels]`; decoding takes `latents` and gives `image`. `f` is
//! [`TinyAutoencoder::spatial_factor`]. The decoder bends latents softly into -3..3.

mod config;
#[cfg(test)]
mod tests;

use kiln_graph::ops::{Conv2d, Interpolate, InterpolateMode};
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor, Value};

pub use config::Config;

use crate::blocks::conv3x3;
use crate::latents::Scaling;
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// What the decoder keeps latents within.
const LIMIT: f32 = 3.0;

/// A tiny autoencoder.
#[derive(Clone, Debug)]
pub struct TinyAutoencoder {
    config: Config,
}

/// The modules of a half: a list without names, of which activations and upsamplings have no weights.
struct Layers(usize);

impl Layers {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("layers.{}", self.0 - 1)
    }
}

impl TinyAutoencoder {
    /// The autoencoder that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        config.fit(weights);
        let model = Self { config: config.checked()? };
        let (mut b, side) = (Builder::new(), model.spatial_factor());
        model.encode_in(&mut b, 1, [side; 2], &Taps::none())?;
        model.decode_in(&mut b, 1, [1; 2], &Taps::none())?;
        check(&b.finish(), weights, &|_| false)?;
        Ok(model)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many pixels of an image, along each side, become one of the latents.
    pub fn spatial_factor(&self) -> usize {
        1 << self.config.num_encoder_blocks.len().saturating_sub(1)
    }

    /// How latents are scaled for a diffusion model.
    pub fn scaling(&self) -> &Scaling {
        &self.config.scaling
    }

    /// Latents within 0..1, for storing them as pictures: `z / (2 * latent_magnitude) + latent_shift`, cut off there.
    pub fn scale_latents(&self, latents: &Tensor) -> Result<Tensor, Error> {
        let (magnitude, shift) =
            (f64::from(self.config.latent_magnitude), f64::from(self.config.latent_shift));
        map(latents, |z| (z / (2.0 * magnitude) + shift).clamp(0.0, 1.0))
    }

    /// Latents again of what [`TinyAutoencoder::scale_latents`] gave.
    pub fn unscale_latents(&self, scaled: &Tensor) -> Result<Tensor, Error> {
        let (magnitude, shift) =
            (f64::from(self.config.latent_magnitude), f64::from(self.config.latent_shift));
        map(scaled, |z| (z - shift) * 2.0 * magnitude)
    }

    /// The graph that encodes images of `[height, width]` pixels. Taps: `enc_stage<i>`. [`Error::Input`] where there is
    /// nothing to encode.
    pub fn encode_graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        let mut b = Builder::new();
        not_empty(batch, size)?;
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
        let latents = self.encode(b, image, taps)?;
        b.output("latents", latents)
    }

    /// The graph that decodes latents of `[height, width]` pixels. Taps: `dec_stage<i>`. [`Error::Input`] where there is
    /// nothing to decode.
    pub fn decode_graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        let mut b = Builder::new();
        not_empty(batch, size)?;
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

    /// The latents of images, within a larger graph: `[batch, height, width, in_channels]` to
    /// `[batch, height / f, width / f, latent_channels]`, sides rounded up.
    pub fn encode(&self, b: &mut Builder, image: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let channels = config.encoder_channels;
        b.scope("encoder", |b| {
            let mut layers = Layers(0);
            // The network sees 0..1.
            let mut x = b.affine(image, 0.5, 0.5)?;
            for (i, &blocks) in config.num_encoder_blocks.iter().enumerate() {
                x = if i == 0 {
                    conv3x3(b, &layers.next(), x, channels)?
                } else {
                    plain(b, &layers.next(), x, channels, 2)?
                };
                for _ in 0..blocks {
                    x = self.block(b, &layers.next(), x)?;
                }
                taps.tap(b, &format!("enc_stage{i}"), x)?;
            }
            conv3x3(b, &layers.next(), x, config.latent_channels)
        })
    }

    /// The images of latents, within a larger graph.
    pub fn decode(&self, b: &mut Builder, latents: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let channels = config.decoder_channels;
        b.scope("decoder", |b| {
            let mut layers = Layers(0);
            let x = b.affine(latents, 1.0 / LIMIT, 0.0)?;
            let x = b.tanh(x)?;
            let x = b.affine(x, LIMIT, 0.0)?;
            let x = conv3x3(b, &layers.next(), x, channels)?;
            layers.next();
            let mut x = b.unary(config.act_fn, x)?;
            for (i, &blocks) in config.num_decoder_blocks.iter().enumerate() {
                for _ in 0..blocks {
                    x = self.block(b, &layers.next(), x)?;
                }
                taps.tap(b, &format!("dec_stage{i}"), x)?;
                if i + 1 < config.num_decoder_blocks.len() {
                    layers.next();
                    let factor = [config.upsampling_scaling_factor as f64; 2];
                    x = b.interpolate(x, Interpolate::scale_factor(InterpolateMode::Nearest, factor))?;
                    x = plain(b, &layers.next(), x, channels, 1)?;
                }
            }
            let x = conv3x3(b, &layers.next(), x, config.out_channels)?;
            b.affine(x, 2.0, -1.0)
        })
    }

    /// Three convolutions, added to what went in.
    fn block(&self, b: &mut Builder, module: &str, x: Value) -> Result<Value, GraphError> {
        let channels = b.desc(x).last();
        b.scope(format!("{module}.conv"), |b| {
            let y = conv3x3(b, "0", x, channels)?;
            let y = b.unary(self.config.act_fn, y)?;
            let y = conv3x3(b, "2", y, channels)?;
            let y = b.unary(self.config.act_fn, y)?;
            let y = conv3x3(b, "4", y, channels)?;
            let y = b.add(y, x)?;
            b.relu(y)
        })
    }
}

/// A 3x3 convolution without a bias.
fn plain(
    b: &mut Builder,
    module: &str,
    x: Value,
    outputs: usize,
    stride: usize,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let weight = b.weight("weight", [outputs, b.desc(x).last(), 3, 3])?;
        b.conv2d(x, weight, None, Conv2d::default().padding(1).stride(stride))
    })
}

fn not_empty(batch: usize, size: [usize; 2]) -> Result<(), Error> {
    if batch == 0 || size.contains(&0) {
        let [height, width] = size;
        return Err(Error::Input(format!("{batch} images of {height}x{width} pixels hold nothing")));
    }
    Ok(())
}

fn map(tensor: &Tensor, f: impl Fn(f64) -> f64) -> Result<Tensor, Error> {
    let values: Vec<f64> = tensor.to_f64().into_iter().map(f).collect();
    Ok(Tensor::from_f64(tensor.shape(), tensor.dtype(), &values).map_err(GraphError::from)?)
}
