//! VQGAN: "Taming Transformers for High-Resolution Image Synthesis" (Esser et al. 2021,
//! <https://arxiv.org/abs/2012.09841>), an autoencoder whose latents are rows of a learned codebook, so that a picture is
//! a grid of whole numbers; and the autoencoders with a codebook of latent diffusion (Rombach et al. 2021,
//! <https://arxiv.org/abs/2112.10752>), which have other sizes.
//!
//! Reads diffusers' `VQModel`, and the paper's own configurations; weights by the paper's own names are read through
//! [`diffusers_names`]. Encoding takes `image` `[batch, height, width, in_channels]` in -1..1 and gives `latents` `[batch,
//! height / f, width / f, vq_embed_dim]` before a code is chosen, and `codes` (i32) `[batch, height / f, width / f]`.
//! Decoding takes `codes` and gives `quantized`, the codebook's rows, shaped as `latents`, and `image`. `f` is
//! [`VqModel::spatial_factor`].
//!
//! The code of a latent is the row that is nearest to it; of equally near ones the first. The paper's code compares
//! expanded squares and diffusers roots, which differ from that in rounding alone. With Gumbel's quantiser it is the
//! largest of the scores that a 1x1 convolution gives, without the noise that training adds to them.

mod config;
mod original;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kiln_graph::ops::Conv2d;
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor, Value};

pub use config::{Config, Quantizer};
pub use original::diffusers_names;

use crate::blocks::conv2d;
use crate::halves::{Halves, Names};
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// What a training leaves among the weights: averages that the codebook follows, and colours of segmentations.
const LEFT_OVER: [&str; 8] = [
    "loss.",
    "model_ema.",
    "colorize",
    "quantize.embedding.cluster_size",
    "quantize.embedding.embed_avg",
    "quantize.cluster_size",
    "quantize.embed_avg",
    "quantize._codebook.",
];

/// An autoencoder with a codebook: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct VqModel {
    config: Config,
    names: Names,
}

impl VqModel {
    /// The autoencoder that `config` describes and `weights` hold, by diffusers' names. The codebook has to be of the
    /// configuration's size, since whoever makes codes goes by that.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        config.fit(weights);
        let model = Self { config: config.checked()?, names: Names::of(weights) };
        let left_over = |name: &str| LEFT_OVER.iter().any(|start| name.starts_with(start));
        check(&model.whole()?, weights, &left_over)?;
        Ok(model)
    }

    /// All of it as one small graph, which shows all that the model wants.
    fn whole(&self) -> Result<Graph, Error> {
        self.graph(1, [self.spatial_factor(); 2], &Taps::none())
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many pixels of an image, along each side, become one code.
    pub fn spatial_factor(&self) -> usize {
        1 << self.config.block_out_channels.len().saturating_sub(1)
    }

    /// The graph that encodes images of `[height, width]` pixels: outputs `latents` and `codes`. Taps: `enc_level<i>`
    /// behind each block, `enc_attn_level` behind the last that has attentions, `enc_mid_attn`, `enc_mid`.
    /// [`Error::Input`] where such images are smaller than one code.
    pub fn encode_graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        self.check_images(batch, size)?;
        let mut b = Builder::new();
        self.encode_in(&mut b, batch, size, taps)?;
        Ok(b.finish())
    }

    /// The graph that decodes `[height, width]` codes, its input `codes`: outputs `quantized` and `image`. Taps:
    /// `dec_mid_attn`, `dec_mid`, `dec_up<i>` behind each block. [`Error::Input`] where there is nothing to decode.
    pub fn decode_graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        if batch == 0 || size.contains(&0) {
            return Err(Error::Input(format!("{batch} times {}x{} codes hold nothing", size[0], size[1])));
        }
        let mut b = Builder::new();
        let codes = b.input("codes", [batch, size[0], size[1]], DType::I32)?;
        self.decode_in(&mut b, codes, taps)?;
        Ok(b.finish())
    }

    /// The graph that encodes images of `[height, width]` pixels and decodes their codes: outputs `latents`, `codes`,
    /// `quantized` and `image`, whose sides are whole numbers of codes. Taps: those of either half.
    pub fn graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        self.check_images(batch, size)?;
        let mut b = Builder::new();
        let codes = self.encode_in(&mut b, batch, size, taps)?;
        self.decode_in(&mut b, codes, taps)?;
        Ok(b.finish())
    }

    /// Paths of the nodes that should stay f32 where the rest is stored in f16: those that choose codes, for near ties are
    /// many, and a code that is off is a whole patch of the picture.
    pub fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        let kept = |path: &&String| path.starts_with("quant_conv") || path.starts_with("quantize");
        graph.nodes().iter().map(|node| &node.path).filter(kept).cloned().collect()
    }

    /// Refuses codes that the codebook does not have.
    pub fn check_codes(&self, codes: &Tensor) -> Result<(), Error> {
        let count = self.config.num_vq_embeddings;
        match codes.to_f64().into_iter().find(|&code| !(0.0..count as f64).contains(&code)) {
            None => Ok(()),
            Some(code) => Err(Error::Input(format!("{code} is none of the codebook's {count} codes"))),
        }
    }

    fn check_images(&self, batch: usize, size: [usize; 2]) -> Result<(), Error> {
        let factor = self.spatial_factor();
        if batch == 0 || size.iter().any(|&side| side < factor) {
            let [height, width] = size;
            return Err(Error::Input(format!(
                "{batch} images of {height}x{width} pixels cannot be encoded: they have to be {factor}x{factor} at least"
            )));
        }
        Ok(())
    }

    fn encode_in(
        &self,
        b: &mut Builder,
        batch: usize,
        size: [usize; 2],
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let image = b.input("image", [batch, size[0], size[1], self.config.in_channels], DType::F32)?;
        let latents = self.encode(b, image, taps)?;
        b.output("latents", latents)?;
        let codes = self.quantize(b, latents)?;
        b.output("codes", codes)?;
        Ok(codes)
    }

    fn decode_in(&self, b: &mut Builder, codes: Value, taps: &Taps) -> Result<(), GraphError> {
        let quantized = self.look_up(b, codes)?;
        b.output("quantized", quantized)?;
        let image = self.decode(b, quantized, taps)?;
        b.output("image", image)
    }
}

/// The model's steps, within a larger graph.
impl VqModel {
    /// The latents of images: `[batch, height, width, in_channels]` to `[batch, height / f, width / f, vq_embed_dim]`.
    pub fn encode(&self, b: &mut Builder, image: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let x = self.halves().encode(b, image, config.latent_channels, taps)?;
        conv2d(b, "quant_conv", x, config.vq_embed_dim, 1, Conv2d::default())
    }

    /// The codes (i32) of latents: `[batch, height, width, vq_embed_dim]` to `[batch, height, width]`.
    pub fn quantize(&self, b: &mut Builder, latents: Value) -> Result<Value, GraphError> {
        match self.config.quantizer {
            Quantizer::Nearest => {
                let codebook = self.codebook(b)?;
                b.scope("quantize", |b| b.nearest_code(latents, codebook))
            }
            Quantizer::Gumbel => b.scope("quantize", |b| {
                let codes = self.config.num_vq_embeddings;
                let scores = conv2d(b, "proj", latents, codes, 1, Conv2d::default())?;
                b.argmax(scores, 3)
            }),
        }
    }

    /// The codebook's rows of codes: `[batch, height, width]` to `[batch, height, width, vq_embed_dim]`. A code that the
    /// codebook does not have means its nearer end, see [`VqModel::check_codes`].
    pub fn look_up(&self, b: &mut Builder, codes: Value) -> Result<Value, GraphError> {
        let codebook = self.codebook(b)?;
        b.scope("codebook", |b| b.embedding(codes, codebook))
    }

    /// The images of rows of the codebook, or of any latents: `[batch, height, width, vq_embed_dim]` to `[batch,
    /// height * f, width * f, out_channels]`.
    pub fn decode(&self, b: &mut Builder, quantized: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let x = conv2d(b, "post_quant_conv", quantized, config.latent_channels, 1, Conv2d::default())?;
        self.halves().decode(b, x, config.out_channels, taps)
    }

    fn codebook(&self, b: &mut Builder) -> Result<Value, GraphError> {
        let config = &self.config;
        b.weight(config.quantizer.codebook(), [config.num_vq_embeddings, config.vq_embed_dim])
    }

    fn halves(&self) -> Halves<'_> {
        let config = &self.config;
        Halves {
            stem: config.stem_channels,
            widths: &config.block_out_channels,
            layers: config.layers_per_block,
            encoder_attention: &config.encoder_attention,
            decoder_attention: &config.decoder_attention,
            middle_attention: config.mid_block_add_attention,
            groups: config.norm_num_groups,
            act: config.act_fn,
            names: self.names,
        }
    }
}
