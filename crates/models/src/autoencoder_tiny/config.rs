//! Sizes and options of tiny autoencoders.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use crate::Error;
use crate::config::Config as Reader;
use crate::latents::Scaling;
use crate::weights::Weights;

/// Most layers of a half.
const MAX_LAYERS: usize = 1024;

/// Most stages of a half, and the largest factor of an upsampling.
const MAX_STAGES: usize = 16;

/// Sizes and options. Start from [`Config::taesd`] or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of an image that is encoded.
    pub in_channels: usize,
    /// Channels of an image that was decoded.
    pub out_channels: usize,
    /// Channels within the encoder.
    pub encoder_channels: usize,
    /// Channels within the decoder.
    pub decoder_channels: usize,
    /// Blocks of each stage of the encoder. Every stage but the first halves the image's sides.
    pub num_encoder_blocks: Vec<usize>,
    /// Blocks of each stage of the decoder.
    pub num_decoder_blocks: Vec<usize>,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// How much larger each stage of the decoder but the last makes the image's sides.
    pub upsampling_scaling_factor: usize,
    /// The activation within blocks.
    pub act_fn: Unary,
    /// How latents are scaled for a diffusion model.
    pub scaling: Scaling,
    /// Half the range of latents that are stored as pictures.
    pub latent_magnitude: f32,
    /// What zero is stored as.
    pub latent_shift: f32,
}

impl Config {
    /// TAESD for Stable Diffusion 1.x, 2.x and, in another file, XL: 2.4 M parameters (`madebyollin/taesd`).
    pub fn taesd() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            encoder_channels: 64,
            decoder_channels: 64,
            num_encoder_blocks: vec![1, 3, 3, 3],
            num_decoder_blocks: vec![3, 3, 3, 1],
            latent_channels: 4,
            upsampling_scaling_factor: 2,
            act_fn: Unary::Relu,
            scaling: Scaling::NONE,
            latent_magnitude: 3.0,
            latent_shift: 0.5,
        }
    }

    /// TAESD for latents of 16 channels (`madebyollin/taesd3`, `madebyollin/taef1`).
    pub fn taesd3() -> Self {
        Self { latent_channels: 16, ..Self::taesd() }
    }

    /// The preset of this name: `taesd` or `taesd3`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "taesd" => Self::taesd(),
            "taesd3" => Self::taesd3(),
            _ => return None,
        })
    }

    /// Reads diffusers' configuration of an `AutoencoderTiny`. What it leaves out is at diffusers' default.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        match reader.str("_class_name")? {
            None | Some("AutoencoderTiny") => {}
            Some(other) => return Err(Error::Config(format!("{other} is no AutoencoderTiny"))),
        }
        if let Some(other) = reader.str("upsample_fn")?.filter(|&kind| kind != "nearest") {
            return Err(Error::Config(format!(
                "upsample_fn is {other:?}, and Kiln's AutoencoderTiny has nearest alone"
            )));
        }
        let default = Self::taesd();
        let channels = |key: &str| {
            let list = reader.sizes(key)?.unwrap_or_else(|| vec![64; 4]);
            let first = list.first().copied().unwrap_or(0);
            if list.iter().any(|&other| other != first) {
                return Err(Error::Config(format!("{key} is {list:?}, and its stages add to one another")));
            }
            Ok((first, list.len()))
        };
        let blocks = |key: &str, default: Vec<usize>, stages: usize, other: &str| {
            let list = reader.sizes(key)?.unwrap_or(default);
            if list.len() != stages {
                return Err(Error::Config(format!("{key} has {} stages, and {other} {stages}", list.len())));
            }
            Ok(list)
        };
        let (encoder, decoder) = ("encoder_block_out_channels", "decoder_block_out_channels");
        let (encoder_channels, encoder_stages) = channels(encoder)?;
        let (decoder_channels, decoder_stages) = channels(decoder)?;
        let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
        Ok(Self {
            in_channels: size("in_channels", 3)?,
            out_channels: size("out_channels", 3)?,
            encoder_channels,
            decoder_channels,
            num_encoder_blocks: blocks(
                "num_encoder_blocks",
                default.num_encoder_blocks,
                encoder_stages,
                encoder,
            )?,
            num_decoder_blocks: blocks(
                "num_decoder_blocks",
                default.num_decoder_blocks,
                decoder_stages,
                decoder,
            )?,
            latent_channels: size("latent_channels", 4)?,
            upsampling_scaling_factor: size("upsampling_scaling_factor", 2)?,
            act_fn: reader.activation("act_fn")?.unwrap_or(default.act_fn),
            scaling: Scaling::read(reader, 1.0)?,
            latent_magnitude: reader.float("latent_magnitude")?.unwrap_or(3.0),
            latent_shift: reader.float("latent_shift")?.unwrap_or(0.5),
        })
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights) {
        let convolution = |name: String| match weights.shape(&name) {
            Some(&[outputs, inputs, ..]) => Some([outputs, inputs]),
            _ => None,
        };
        // Blocks of each stage, and the shapes of the convolutions between stages.
        let walk = |half: &str| {
            let (mut stages, mut blocks, mut convolutions, mut gap) = (Vec::new(), 0, Vec::new(), 0);
            for i in 0..MAX_LAYERS {
                let layer = format!("{half}.layers.{i}");
                if weights.shape(&format!("{layer}.conv.0.weight")).is_some() {
                    (blocks, gap) = (blocks + 1, 0);
                } else if let Some(shape) = convolution(format!("{layer}.weight")) {
                    stages.push(blocks);
                    convolutions.push(shape);
                    (blocks, gap) = (0, 0);
                } else if gap == 1 {
                    break;
                } else {
                    gap = 1;
                }
            }
            // Nothing comes before the first convolution.
            (stages.split_off(1.min(stages.len())), convolutions)
        };
        let (stages, shapes) = walk("encoder");
        if let ([[channels, inputs], ..], [.., [latent, _]], false) =
            (&shapes[..], &shapes[..], stages.is_empty())
        {
            (self.in_channels, self.encoder_channels, self.latent_channels) = (*inputs, *channels, *latent);
            self.num_encoder_blocks = stages;
        }
        let (stages, shapes) = walk("decoder");
        if let ([[channels, _], ..], [.., [outputs, _]], false) =
            (&shapes[..], &shapes[..], stages.is_empty())
        {
            (self.out_channels, self.decoder_channels) = (*outputs, *channels);
            self.num_decoder_blocks = stages;
        }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        for blocks in [&self.num_encoder_blocks, &self.num_decoder_blocks] {
            let layers: usize = blocks.iter().map(|count| count + 3).sum();
            if blocks.is_empty() || blocks.len() > MAX_STAGES || layers > MAX_LAYERS {
                return wrong(format!("stages of {blocks:?} blocks are none, or more than Kiln takes"));
            }
        }
        let channels = [
            self.in_channels,
            self.out_channels,
            self.latent_channels,
            self.encoder_channels,
            self.decoder_channels,
        ];
        if channels.contains(&0) {
            return wrong("images and latents have to have channels".into());
        }
        if !(1..=MAX_STAGES).contains(&self.upsampling_scaling_factor) {
            return wrong(format!("upsampling_scaling_factor is {}", self.upsampling_scaling_factor));
        }
        if !self.latent_magnitude.is_normal() {
            return wrong(format!("latent_magnitude is {}", self.latent_magnitude));
        }
        self.scaling.check(self.latent_channels)?;
        Ok(self)
    }
}
