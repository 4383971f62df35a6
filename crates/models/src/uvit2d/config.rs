//! Sizes and options of U-ViTs.

use serde_json::Value as Json;

use crate::Error;
use crate::config::Config as Reader;
use crate::weights::Weights;

/// Most layers, and most blocks of a stage, that a configuration may ask for.
const MAX_DEPTH: usize = 1024;

/// Sizes and options, by diffusers' names. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the transformer.
    pub hidden_size: usize,
    /// Whether linear layers and convolutions have biases.
    pub use_bias: bool,
    /// Width of a prompt as a whole.
    pub cond_embed_dim: usize,
    /// Sines and cosines of each of the numbers that describe a picture.
    pub micro_cond_encode_dim: usize,
    /// Those of all of them.
    pub micro_cond_embed_dim: usize,
    /// Width of a prompt's tokens.
    pub encoder_hidden_size: usize,
    /// Ids that have an embedding: those of the codebook, the mask's, and a few that fill up.
    pub vocab_size: usize,
    /// Codes.
    pub codebook_size: usize,
    /// Width of a code's embedding.
    pub in_channels: usize,
    /// Channels of the outer stages.
    pub block_out_channels: usize,
    /// Residual blocks of each outer stage, each with two attentions to the prompt.
    pub num_res_blocks: usize,
    /// Whether the transformer sees half as many rows and columns.
    pub downsample: bool,
    /// Whether they are doubled behind it.
    pub upsample: bool,
    /// Attention heads of the outer stages.
    pub block_num_heads: usize,
    /// Layers of the transformer.
    pub num_hidden_layers: usize,
    /// Its attention heads.
    pub num_attention_heads: usize,
    /// Width between the two layers of its perceptrons.
    pub intermediate_size: usize,
    /// Added to mean squares and variances.
    pub layer_norm_eps: f32,
    /// Whether norms have weights.
    pub ln_elementwise_affine: bool,
    /// Codes along a side of the pictures that it was made for.
    pub sample_size: usize,
}

impl Config {
    /// aMUSEd's for pictures of 256 pixels (`amused/amused-256`).
    pub fn amused_256() -> Self {
        Self {
            hidden_size: 1024,
            use_bias: false,
            cond_embed_dim: 768,
            micro_cond_encode_dim: 256,
            micro_cond_embed_dim: 1280,
            encoder_hidden_size: 768,
            vocab_size: 8256,
            codebook_size: 8192,
            in_channels: 768,
            block_out_channels: 768,
            num_res_blocks: 3,
            downsample: false,
            upsample: false,
            block_num_heads: 12,
            num_hidden_layers: 22,
            num_attention_heads: 16,
            intermediate_size: 2816,
            layer_norm_eps: 1e-6,
            ln_elementwise_affine: true,
            sample_size: 16,
        }
    }

    /// aMUSEd's for pictures of 512 pixels (`amused/amused-512`).
    pub fn amused_512() -> Self {
        Self { downsample: true, upsample: true, sample_size: 32, ..Self::amused_256() }
    }

    /// The preset of this name: `amused-256` or `amused-512`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "amused-256" => Self::amused_256(),
            "amused-512" => Self::amused_512(),
            _ => return None,
        })
    }

    /// Reads diffusers' configuration of a `UVit2DModel`. What is left out is at diffusers' default; dropouts, which
    /// training alone has, are not read.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        match reader.str("_class_name")? {
            None | Some("UVit2DModel") => {}
            Some(other) => return Err(Error::Config(format!("{other} is no UVit2DModel"))),
        }
        let default = Self { sample_size: 64, ..Self::amused_256() };
        let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
        let flag = |key: &str, default: bool| Ok::<_, Error>(reader.flag(key)?.unwrap_or(default));
        Ok(Self {
            hidden_size: size("hidden_size", default.hidden_size)?,
            use_bias: flag("use_bias", default.use_bias)?,
            cond_embed_dim: size("cond_embed_dim", default.cond_embed_dim)?,
            micro_cond_encode_dim: size("micro_cond_encode_dim", default.micro_cond_encode_dim)?,
            micro_cond_embed_dim: size("micro_cond_embed_dim", default.micro_cond_embed_dim)?,
            encoder_hidden_size: size("encoder_hidden_size", default.encoder_hidden_size)?,
            vocab_size: size("vocab_size", default.vocab_size)?,
            codebook_size: size("codebook_size", default.codebook_size)?,
            in_channels: size("in_channels", default.in_channels)?,
            block_out_channels: size("block_out_channels", default.block_out_channels)?,
            num_res_blocks: size("num_res_blocks", default.num_res_blocks)?,
            downsample: flag("downsample", default.downsample)?,
            upsample: flag("upsample", default.upsample)?,
            block_num_heads: size("block_num_heads", default.block_num_heads)?,
            num_hidden_layers: size("num_hidden_layers", default.num_hidden_layers)?,
            num_attention_heads: size("num_attention_heads", default.num_attention_heads)?,
            intermediate_size: size("intermediate_size", default.intermediate_size)?,
            layer_norm_eps: reader.float("layer_norm_eps")?.unwrap_or(default.layer_norm_eps),
            ln_elementwise_affine: flag("ln_elementwise_affine", default.ln_elementwise_affine)?,
            sample_size: size("sample_size", default.sample_size)?,
        })
    }

    /// How many numbers describe a picture.
    pub fn micro_conds(&self) -> usize {
        self.micro_cond_embed_dim.checked_div(self.micro_cond_encode_dim).unwrap_or(0)
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights) {
        let there = |name: &str| weights.shape(name).is_some();
        let pair = |name: &str| match weights.shape(name) {
            Some(&[rows, columns, ..]) => Some([rows, columns]),
            _ => None,
        };
        let Some([hidden, states]) = pair("encoder_proj.weight") else { return };
        (self.hidden_size, self.encoder_hidden_size) = (hidden, states);
        self.use_bias = there("encoder_proj.bias");
        self.ln_elementwise_affine = there("encoder_proj_layer_norm.weight");
        self.downsample = there("down_block.downsample.conv.weight");
        self.upsample = there("up_block.upsample.conv.weight");
        if let Some([vocab, width]) = pair("embed.embeddings.weight") {
            (self.vocab_size, self.in_channels) = (vocab, width);
        }
        if let Some([channels, _]) = pair("embed.conv.weight") {
            self.block_out_channels = channels;
        }
        if let Some([codes, _]) = pair("mlm_layer.conv2.weight") {
            self.codebook_size = codes;
        }
        if let Some([_, both]) = pair("cond_embed.linear_1.weight") {
            self.cond_embed_dim = both.saturating_sub(self.micro_cond_embed_dim);
        }
        if let Some([_, width]) = pair("transformer_layers.0.ff.net.2.weight") {
            self.intermediate_size = width;
        }
        let count = |name: &dyn Fn(usize) -> String| (0..MAX_DEPTH).take_while(|&i| there(&name(i))).count();
        self.num_hidden_layers = count(&|i| format!("transformer_layers.{i}.attn1.to_q.weight"));
        self.num_res_blocks = count(&|i| format!("down_block.res_blocks.{i}.depthwise.weight"));
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        if self.num_hidden_layers > MAX_DEPTH || self.num_res_blocks > MAX_DEPTH {
            let (layers, blocks) = (self.num_hidden_layers, self.num_res_blocks);
            return wrong(format!("{layers} layers and {blocks} blocks are more than {MAX_DEPTH}"));
        }
        for (channels, heads) in
            [(self.hidden_size, self.num_attention_heads), (self.block_out_channels, self.block_num_heads)]
        {
            if channels == 0 || heads == 0 || !channels.is_multiple_of(heads) {
                return wrong(format!("{heads} attention heads cannot share {channels} channels"));
            }
        }
        let (each, all) = (self.micro_cond_encode_dim, self.micro_cond_embed_dim);
        if each == 0 || all == 0 || !all.is_multiple_of(each) {
            return wrong(format!(
                "micro_cond_embed_dim {all} is no multiple of micro_cond_encode_dim {each}"
            ));
        }
        let sizes = [
            self.cond_embed_dim,
            self.encoder_hidden_size,
            self.vocab_size,
            self.codebook_size,
            self.in_channels,
            self.intermediate_size,
        ];
        if sizes.contains(&0) {
            return wrong("a width, the vocabulary or the codebook is 0".into());
        }
        if self.codebook_size > self.vocab_size {
            let (codes, ids) = (self.codebook_size, self.vocab_size);
            return wrong(format!("a codebook of {codes} codes is larger than a vocabulary of {ids} ids"));
        }
        if self.downsample != self.upsample {
            return wrong("what is halved has to be doubled again: downsample and upsample differ".into());
        }
        Ok(self)
    }
}
