//! Sizes and options of autoencoders with a codebook.

mod json;

use kiln_graph::ops::Unary;

use crate::Error;
use crate::latents::Scaling;
use crate::weights::Weights;

/// Most blocks of a half, and most layers of a block, that a configuration may ask for.
const MAX_DEPTH: usize = 16;

/// How the code of a latent is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantizer {
    /// The nearest row of the codebook.
    Nearest,
    /// That of the largest score, which a 1x1 convolution gives: a codebook that was trained with Gumbel's softmax (Jang
    /// et al. 2016, <https://arxiv.org/abs/1611.01144>).
    Gumbel,
}

impl Quantizer {
    /// The codebook's weight.
    pub(crate) fn codebook(self) -> &'static str {
        match self {
            Self::Nearest => "quantize.embedding.weight",
            Self::Gumbel => "quantize.embed.weight",
        }
    }
}

/// Sizes and options. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of an image that is encoded.
    pub in_channels: usize,
    /// Channels of an image that was decoded.
    pub out_channels: usize,
    /// Channels behind the encoder's first convolution: in diffusers those of the first block.
    pub stem_channels: usize,
    /// Channels of each block, outermost first. Every block but the last halves the image's sides.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a block of the encoder; the decoder's have one more.
    pub layers_per_block: usize,
    /// Whether an attention follows each residual block of an encoder's block, outermost first.
    pub encoder_attention: Vec<bool>,
    /// The same for the decoder's blocks, innermost first.
    pub decoder_attention: Vec<bool>,
    /// Whether there is an attention in the middle of each half.
    pub mid_block_add_attention: bool,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// The activation within residual blocks.
    pub act_fn: Unary,
    /// Channels between encoder and codebook, and between codebook and decoder.
    pub latent_channels: usize,
    /// Codes of the codebook.
    pub num_vq_embeddings: usize,
    /// Channels of a code.
    pub vq_embed_dim: usize,
    /// How codes are chosen.
    pub quantizer: Quantizer,
    /// Pixels along a side of the images that it was made for.
    pub sample_size: usize,
    /// How latents are scaled for a diffusion model.
    pub scaling: Scaling,
}

impl Config {
    /// That of the paper's model of ImageNet with 1024 codes: 72 M parameters (`imagenet_vqgan.yaml`).
    pub fn imagenet_f16_1024() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            stem_channels: 128,
            block_out_channels: vec![128, 128, 256, 256, 512],
            layers_per_block: 2,
            encoder_attention: vec![false, false, false, false, true],
            decoder_attention: vec![true, false, false, false, false],
            mid_block_add_attention: true,
            norm_num_groups: 32,
            act_fn: Unary::Silu,
            latent_channels: 256,
            num_vq_embeddings: 1024,
            vq_embed_dim: 256,
            quantizer: Quantizer::Nearest,
            sample_size: 256,
            scaling: Scaling::NONE,
        }
    }

    /// That of the paper's model of ImageNet with 16384 codes.
    pub fn imagenet_f16_16384() -> Self {
        Self { num_vq_embeddings: 16384, ..Self::imagenet_f16_1024() }
    }

    /// That of the paper's authors' model of OpenImages with Gumbel's quantiser (`vqgan_gumbel_f8`).
    pub fn gumbel_f8() -> Self {
        Self {
            block_out_channels: vec![128, 128, 256, 512],
            encoder_attention: vec![false, false, false, true],
            decoder_attention: vec![true, false, false, false],
            num_vq_embeddings: 8192,
            quantizer: Quantizer::Gumbel,
            ..Self::imagenet_f16_1024()
        }
    }

    /// Latent diffusion's VQ-f4 of OpenImages, whose latents have 3 channels (`vq-f4`).
    pub fn vq_f4() -> Self {
        Self {
            block_out_channels: vec![128, 256, 512],
            encoder_attention: vec![false; 3],
            decoder_attention: vec![false; 3],
            latent_channels: 3,
            num_vq_embeddings: 8192,
            vq_embed_dim: 3,
            ..Self::imagenet_f16_1024()
        }
    }

    /// Latent diffusion's VQ-f8 of OpenImages, whose latents have 4 channels (`vq-f8`).
    pub fn vq_f8() -> Self {
        Self {
            block_out_channels: vec![128, 256, 256, 512],
            encoder_attention: vec![false, false, false, true],
            decoder_attention: vec![true, false, false, false],
            latent_channels: 4,
            num_vq_embeddings: 16384,
            vq_embed_dim: 4,
            ..Self::imagenet_f16_1024()
        }
    }

    /// The preset of this name: `imagenet-f16-1024`, `imagenet-f16-16384`, `gumbel-f8`, `vq-f4` or `vq-f8`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "imagenet-f16-1024" => Self::imagenet_f16_1024(),
            "imagenet-f16-16384" => Self::imagenet_f16_16384(),
            "gumbel-f8" => Self::gumbel_f8(),
            "vq-f4" => Self::vq_f4(),
            "vq-f8" => Self::vq_f8(),
            _ => return None,
        })
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree; not those of the codebook.
    pub(super) fn fit(&mut self, weights: &dyn Weights) {
        let shape = |name: String| match weights.shape(&name) {
            Some(&[outputs, inputs, ..]) => Some([outputs, inputs]),
            _ => None,
        };
        let resnet = |block: usize, layer: usize| {
            shape(format!("encoder.down_blocks.{block}.resnets.{layer}.conv1.weight"))
        };
        let blocks: Vec<usize> = (0..MAX_DEPTH).map_while(|block| Some(resnet(block, 0)?[0])).collect();
        if !blocks.is_empty() {
            self.block_out_channels = blocks;
            self.layers_per_block = (0..MAX_DEPTH).take_while(|&layer| resnet(0, layer).is_some()).count();
        }
        if let Some([stem, inputs]) = shape("encoder.conv_in.weight".into()) {
            (self.stem_channels, self.in_channels) = (stem, inputs);
        }
        if let Some([_, latent]) = shape("decoder.conv_in.weight".into()) {
            self.latent_channels = latent;
        }
        if let Some([outputs, _]) = shape("decoder.conv_out.weight".into()) {
            self.out_channels = outputs;
        }
        for quantizer in [Quantizer::Nearest, Quantizer::Gumbel] {
            if weights.shape(quantizer.codebook()).is_some() {
                self.quantizer = quantizer;
            }
        }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        let (blocks, groups, layers) =
            (&self.block_out_channels, self.norm_num_groups, self.layers_per_block);
        if blocks.is_empty() || blocks.len() > MAX_DEPTH || layers > MAX_DEPTH {
            let count = blocks.len();
            return wrong(format!("{count} blocks of {layers} layers are not 1 to {MAX_DEPTH} of each"));
        }
        for attention in [&self.encoder_attention, &self.decoder_attention] {
            if attention.len() != blocks.len() {
                let (named, count) = (attention.len(), blocks.len());
                return wrong(format!(
                    "it tells of {named} blocks whether they have attentions, not of {count}"
                ));
            }
        }
        let normed = blocks.iter().chain([&self.stem_channels]);
        if let Some(channels) =
            normed.into_iter().find(|&&n| groups == 0 || n == 0 || !n.is_multiple_of(groups))
        {
            return wrong(format!("{groups} groups do not divide a block's {channels} channels"));
        }
        if [self.in_channels, self.out_channels, self.latent_channels].contains(&0) {
            return wrong("images and latents have to have channels".into());
        }
        if [self.num_vq_embeddings, self.vq_embed_dim].contains(&0) {
            let (codes, channels) = (self.num_vq_embeddings, self.vq_embed_dim);
            return wrong(format!("a codebook of {codes} codes of {channels} channels holds nothing"));
        }
        self.scaling.check(self.vq_embed_dim)?;
        Ok(self)
    }
}
