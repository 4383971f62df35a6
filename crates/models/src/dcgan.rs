//! The generators of DCGAN, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
//! (Radford et al. 2015, <https://arxiv.org/abs/1511.06434>), and of WGAN (Arjovsky et al. 2017,
//! <https://arxiv.org/abs/1701.07875>): a row of noise becomes a few pixels, whose sides are doubled until it is a picture.
//!
//! Reads the names of PyTorch's example (`main.0.weight`, <https://github.com/pytorch/examples/tree/main/dcgan>) and those of
//! WGAN's authors (`main.initial:100-512:convt.weight`, <https://github.com/martinarjovsky/WassersteinGAN>), with batch norms
//! or none, biases or none, and layers in between that keep the size. The weights' shapes tell all sizes. Input: `latents`
//! `[batch, nz]`, standard normal numbers. Output: `image` `[batch, size, size, nc]` in -1..1.

mod layers;
mod sampler;
#[cfg(test)]
mod tests;

use kiln_graph::ops::{Conv2d, ConvTranspose2d};
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use layers::{Kind, Layer};
pub use sampler::Sampler;

use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// Added to the variances of batch norms.
const EPS: f32 = 1e-5;

/// A generator: its layers, as the weights have them.
#[derive(Clone, Debug)]
pub struct Dcgan {
    layers: Vec<Layer>,
}

impl Dcgan {
    /// The generator that `weights` hold.
    pub fn new(weights: &dyn Weights) -> Result<Self, Error> {
        let model = Self { layers: layers::read(weights)? };
        let graph = model.graph(1, &Taps::none())?;
        check(&graph, weights, &|name| name.ends_with("num_batches_tracked"))?;
        Ok(model)
    }

    /// The layers, from noise to pixels.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Numbers of noise of a picture: the paper's `nz`.
    pub fn latent_dim(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// Channels of a picture: the paper's `nc`.
    pub fn channels(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Pixels along a side of a picture.
    pub fn image_size(&self) -> usize {
        self.layers.iter().fold(1, |side, layer| layer.side(side))
    }

    /// The graph that makes `batch` pictures. Taps: `layer<i>` behind each layer's activation, but for the last, which gives
    /// the picture. [`Error::Input`] where there is nothing to make.
    pub fn graph(&self, batch: usize, taps: &Taps) -> Result<Graph, Error> {
        if batch == 0 {
            return Err(Error::Input("no pictures are no batch".into()));
        }
        let mut b = Builder::new();
        let latents = b.input("latents", [batch, self.latent_dim()], DType::F32)?;
        let mut x = b.reshape(latents, [batch, 1, 1, self.latent_dim()])?;
        let last = self.layers.len().saturating_sub(1);
        for (i, layer) in self.layers.iter().enumerate() {
            x = b.scope("main", |b| convolve(b, layer, x))?;
            if i < last {
                x = b.relu(x)?;
                taps.tap(&mut b, &format!("layer{i}"), x)?;
            }
        }
        let image = b.tanh(x)?;
        b.output("image", image)?;
        Ok(b.finish())
    }
}

/// A layer before its activation.
fn convolve(b: &mut Builder, layer: &Layer, x: Value) -> Result<Value, GraphError> {
    let Layer { outputs, kernel, .. } = *layer;
    let y = b.scope(&layer.module, |b| {
        let bias = if layer.bias { Some(b.weight("bias", [outputs])?) } else { None };
        let weight = b.weight("weight", layer.weight_shape())?;
        match layer.kind {
            Kind::Project => b.conv_transpose2d(x, weight, bias, ConvTranspose2d::default()),
            Kind::Double => {
                b.conv_transpose2d(x, weight, bias, ConvTranspose2d::default().stride(2).padding(1))
            }
            Kind::Keep => b.conv2d(x, weight, bias, Conv2d::default().padding(kernel / 2)),
        }
    })?;
    let Some(norm) = &layer.norm else { return Ok(y) };
    b.scope(norm, |b| {
        let mut row = |name: &str| b.weight(name, [outputs]);
        let (weight, bias) = (row("weight")?, row("bias")?);
        let (mean, variance) = (row("running_mean")?, row("running_var")?);
        b.batch_norm(y, Some(weight), Some(bias), mean, variance, EPS)
    })
}
