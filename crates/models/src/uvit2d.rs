//! U-ViT of aMUSEd: "aMUSEd: An Open MUSE Reproduction" (Patil et al. 2024, <https://arxiv.org/abs/2401.01808>), a
//! transformer that says of every code of a picture what it could be, for masked parallel decoding ("MaskGIT: Masked
//! Generative Image Transformer", Chang et al. 2022, <https://arxiv.org/abs/2202.04200>).
//!
//! Reads diffusers' `UVit2DModel`. Inputs: `input_ids` (i32) `[batch, height, width]`, codes or the id of a mask;
//! `encoder_hidden_states` `[batch, tokens, encoder_hidden_size]`, a text encoder's last layer but one; `pooled_text_emb`
//! `[batch, cond_embed_dim]`; `micro_conds` `[batch, conds]`: width, height, crop and aesthetic score. Output: `logits`
//! `[batch, height, width, codebook_size]`.

mod blocks;
mod config;
#[cfg(test)]
mod tests;
mod transformer;

use std::collections::BTreeSet;

use kiln_graph::ops::{Conv2d, ConvTranspose2d, TimestepEmbedding};
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::Config;

use crate::layers::linear;
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// A U-ViT: its sizes, which are those of its weights.
#[derive(Clone, Debug)]
pub struct UVit2d {
    config: Config,
}

/// What a graph's codes and prompts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many pictures, each with a prompt of its own.
    pub batch: usize,
    /// Rows and columns of codes.
    pub size: [usize; 2],
    /// Tokens of a prompt.
    pub tokens: usize,
}

/// What codes are of, within a larger graph.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// What each token of the prompts comes to, `[batch, tokens, encoder_hidden_size]`.
    pub encoder_hidden_states: Value,
    /// What each prompt comes to as a whole, `[batch, cond_embed_dim]`.
    pub pooled_text_emb: Value,
    /// Numbers that the pictures were described by in training, `[batch, conds]`.
    pub micro_conds: Value,
}

impl UVit2d {
    /// The model that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        config.fit(weights);
        let model = Self { config: config.checked()? };
        // One small graph shows all that the model wants.
        let graph = model.graph(Shape { batch: 1, size: [2; 2], tokens: 1 }, &Taps::none())?;
        check(&graph, weights, &|_| false)?;
        Ok(model)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Refuses rows and columns of codes that the model cannot take: with a downsampling, odd ones.
    pub fn check_size(&self, size: [usize; 2]) -> Result<(), Error> {
        let odd = self.config.downsample && size.iter().any(|side| side % 2 == 1);
        if odd || size.contains(&0) {
            let ([rows, columns], even) = (size, if odd { "even " } else { "" });
            return Err(Error::Input(format!("{rows}x{columns} codes are no {even}numbers of codes")));
        }
        Ok(())
    }

    /// The graph of all of it. Taps: `encoder`, `cond_embed`, `embed`, `downsample`, `down_res<i>`, `down_attn<i>`,
    /// `layer<i>`, `up_res<i>`, `up_attn<i>`, `upsample`. [`Error::Input`] where a size is 0, or odd and to be halved.
    pub fn graph(&self, shape: Shape, taps: &Taps) -> Result<Graph, Error> {
        let Shape { batch, size, tokens } = shape;
        self.check_size(size)?;
        if batch == 0 || tokens == 0 {
            return Err(Error::Input(format!("{batch} pictures of prompts of {tokens} tokens are nothing")));
        }
        let mut b = Builder::new();
        let ids = b.input("input_ids", [batch, size[0], size[1]], DType::I32)?;
        let conditions = self.conditions(&mut b, batch, tokens)?;
        let logits = self.logits(&mut b, ids, conditions, taps)?;
        b.output("logits", logits)?;
        Ok(b.finish())
    }

    /// The inputs besides the codes: `encoder_hidden_states`, `pooled_text_emb` and `micro_conds`.
    pub fn conditions(&self, b: &mut Builder, batch: usize, tokens: usize) -> Result<Conditions, GraphError> {
        let config = &self.config;
        let width = config.encoder_hidden_size;
        Ok(Conditions {
            encoder_hidden_states: b.input("encoder_hidden_states", [batch, tokens, width], DType::F32)?,
            pooled_text_emb: b.input("pooled_text_emb", [batch, config.cond_embed_dim], DType::F32)?,
            micro_conds: b.input("micro_conds", [batch, config.micro_conds()], DType::F32)?,
        })
    }

    /// What each of `ids` `[batch, height, width]` could be, within a larger graph: `[batch, height, width,
    /// codebook_size]`. Taps: those of [`UVit2d::graph`].
    pub fn logits(
        &self,
        b: &mut Builder,
        ids: Value,
        conditions: Conditions,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let config = &self.config;
        let (hidden, bias) = (config.hidden_size, config.use_bias);
        let states = linear(b, "encoder_proj", conditions.encoder_hidden_states, hidden, bias)?;
        let states = self.norm(b, "encoder_proj_layer_norm", states)?;
        taps.tap(b, "encoder", states)?;
        let cond = self.cond_embed(b, conditions, taps)?;
        let mut x = self.embed(b, ids)?;
        taps.tap(b, "embed", x)?;
        if config.downsample {
            x = self.resample(b, "down_block.downsample", x, |b, x, weight, bias| {
                b.conv2d(x, weight, bias, Conv2d::default().stride(2))
            })?;
            taps.tap(b, "downsample", x)?;
        }
        x = blocks::stage(config, b, "down", x, cond, states, taps)?;
        x = self.transformer(b, x, cond, states, taps)?;
        x = blocks::stage(config, b, "up", x, cond, states, taps)?;
        if config.upsample {
            x = self.resample(b, "up_block.upsample", x, |b, x, weight, bias| {
                b.conv_transpose2d(x, weight, bias, ConvTranspose2d::default().stride(2))
            })?;
            taps.tap(b, "upsample", x)?;
        }
        b.scope("mlm_layer", |b| {
            let x = pointwise(b, "conv1", x, config.in_channels, bias)?;
            let x = self.norm(b, "layer_norm", x)?;
            pointwise(b, "conv2", x, config.codebook_size, bias)
        })
    }

    /// Paths of the nodes that should stay f32 where the rest is stored in f16: those that see what holds for a whole
    /// picture, which are a few rows.
    pub fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        let kept = |path: &&String| path.starts_with("cond_embed");
        graph.nodes().iter().map(|node| &node.path).filter(kept).cloned().collect()
    }

    fn norm(&self, b: &mut Builder, module: &str, x: Value) -> Result<Value, GraphError> {
        rms_norm(b, module, x, self.config.ln_elementwise_affine, self.config.layer_norm_eps)
    }

    /// What holds for a whole picture, behind the activation that every use of it has: `[batch, hidden_size]`.
    fn cond_embed(&self, b: &mut Builder, conditions: Conditions, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let (hidden, bias) = (config.hidden_size, config.use_bias);
        b.scope("cond_embed", |b| {
            let op = TimestepEmbedding::new(config.micro_cond_encode_dim);
            let micro = b.timestep_embedding(conditions.micro_conds, op)?;
            let micro = b.flatten(micro, 1, 2)?;
            let both = b.concat(&[conditions.pooled_text_emb, micro], 1)?;
            let x = linear(b, "linear_1", both, hidden, bias)?;
            let x = b.silu(x)?;
            let x = linear(b, "linear_2", x, hidden, bias)?;
            taps.tap(b, "cond_embed", x)?;
            b.silu(x)
        })
    }

    /// What codes mean: `[batch, height, width]` to `[batch, height, width, block_out_channels]`.
    fn embed(&self, b: &mut Builder, ids: Value) -> Result<Value, GraphError> {
        let config = &self.config;
        b.scope("embed", |b| {
            let table = b.weight("embeddings.weight", [config.vocab_size, config.in_channels])?;
            let x = b.embedding(ids, table)?;
            let x = self.norm(b, "layer_norm", x)?;
            pointwise(b, "conv", x, config.block_out_channels, config.use_bias)
        })
    }

    /// A norm, and a convolution of 2x2 pixels that halves both sides or doubles them.
    fn resample(
        &self,
        b: &mut Builder,
        module: &str,
        x: Value,
        convolve: impl FnOnce(&mut Builder, Value, Value, Option<Value>) -> Result<Value, GraphError>,
    ) -> Result<Value, GraphError> {
        let channels = self.config.block_out_channels;
        b.scope(module, |b| {
            let x = self.norm(b, "norm", x)?;
            b.scope("conv", |b| {
                let weight = b.weight("weight", [channels, channels, 2, 2])?;
                let bias = if self.config.use_bias { Some(b.weight("bias", [channels])?) } else { None };
                convolve(b, x, weight, bias)
            })
        })
    }

    /// The layers in which all codes see each other and the prompt.
    fn transformer(
        &self,
        b: &mut Builder,
        x: Value,
        cond: Value,
        states: Value,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let config = &self.config;
        let image = b.shape(x).to_vec();
        let x = b.flatten(x, 1, 2)?;
        let x = self.norm(b, "project_to_hidden_norm", x)?;
        let mut x = linear(b, "project_to_hidden", x, config.hidden_size, config.use_bias)?;
        for i in 0..config.num_hidden_layers {
            x = b.scope(format!("transformer_layers.{i}"), |b| {
                transformer::layer(config, b, x, cond, states)
            })?;
            taps.tap(b, &format!("layer{i}"), x)?;
        }
        let x = self.norm(b, "project_from_hidden_norm", x)?;
        let x = linear(b, "project_from_hidden", x, config.block_out_channels, config.use_bias)?;
        b.reshape(x, image)
    }
}

/// A root-mean-square norm over the last axis: "Root Mean Square Layer Normalization" (Zhang and Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>).
fn rms_norm(b: &mut Builder, module: &str, x: Value, affine: bool, eps: f32) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let weight = if affine { Some(b.weight("weight", [b.desc(x).last()])?) } else { None };
        b.rms_norm(x, weight, eps)
    })
}

/// A 1x1 convolution.
fn pointwise(
    b: &mut Builder,
    module: &str,
    x: Value,
    outputs: usize,
    bias: bool,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let weight = b.weight("weight", [outputs, b.desc(x).last(), 1, 1])?;
        let bias = if bias { Some(b.weight("bias", [outputs])?) } else { None };
        b.conv2d(x, weight, bias, Conv2d::default())
    })
}

/// `x` times one more than the first half of `both` `[batch, 2 * channels]`, plus the second half. `x` is `[batch, ...,
/// channels]`.
fn modulate(b: &mut Builder, x: Value, both: Value) -> Result<Value, GraphError> {
    let mut shape = vec![1; b.shape(x).len()];
    let channels = b.desc(x).last();
    if let (Some(first), Some(&batch)) = (shape.first_mut(), b.shape(x).first()) {
        *first = batch;
    }
    if let Some(last) = shape.last_mut() {
        *last = channels;
    }
    let scale = b.slice(both, 1, 0, channels)?;
    let scale = b.affine(scale, 1.0, 1.0)?;
    let scale = b.reshape(scale, shape.clone())?;
    let shift = b.slice(both, 1, channels, 2 * channels)?;
    let shift = b.reshape(shift, shape)?;
    let x = b.mul(x, scale)?;
    b.add(x, shift)
}
