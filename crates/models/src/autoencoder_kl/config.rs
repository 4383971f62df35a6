//! Sizes and options of latent diffusion's autoencoders.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use crate::Error;
use crate::config::Config as Reader;
use crate::latents::Scaling;
use crate::weights::Weights;

/// Most blocks of a half, and most layers of a block, that a configuration may ask for.
const MAX_DEPTH: usize = 16;

/// Sizes and options. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of an image that is encoded.
    pub in_channels: usize,
    /// Channels of an image that was decoded.
    pub out_channels: usize,
    /// Channels of each block, outermost first. Every block but the last halves the image's sides.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a block of the encoder; the decoder's have one more.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// The activation within residual blocks.
    pub act_fn: Unary,
    /// Pixels along a side of the images that it was made for: the size of tiles, where it works in tiles.
    pub sample_size: usize,
    /// How latents are scaled for a diffusion model.
    pub scaling: Scaling,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether one precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether there is an attention in the middle of each half.
    pub mid_block_add_attention: bool,
}

impl Config {
    /// That of Stable Diffusion 1.x and 2.x: 84 M parameters (`stabilityai/sd-vae-ft-mse`).
    pub fn stable_diffusion() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 4,
            norm_num_groups: 32,
            act_fn: Unary::Silu,
            sample_size: 512,
            scaling: Scaling { factor: 0.18215, ..Scaling::NONE },
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }

    /// That of Stable Diffusion XL (`stabilityai/sdxl-vae`).
    pub fn stable_diffusion_xl() -> Self {
        let scaling = Scaling { factor: 0.13025, ..Scaling::NONE };
        Self { sample_size: 1024, scaling, ..Self::stable_diffusion() }
    }

    /// That of Stable Diffusion 3, with 16 channels (`stabilityai/stable-diffusion-3-medium-diffusers`).
    pub fn stable_diffusion_3() -> Self {
        Self {
            latent_channels: 16,
            sample_size: 1024,
            scaling: Scaling { factor: 1.5305, shift: 0.0609, ..Scaling::NONE },
            use_quant_conv: false,
            use_post_quant_conv: false,
            ..Self::stable_diffusion()
        }
    }

    /// That of FLUX.1, with 16 channels (`black-forest-labs/FLUX.1-schnell`).
    pub fn flux() -> Self {
        let scaling = Scaling { factor: 0.3611, shift: 0.1159, ..Scaling::NONE };
        Self { scaling, ..Self::stable_diffusion_3() }
    }

    /// The preset of this name: `sd`, `sdxl`, `sd3` or `flux`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sd" => Self::stable_diffusion(),
            "sdxl" => Self::stable_diffusion_xl(),
            "sd3" => Self::stable_diffusion_3(),
            "flux" => Self::flux(),
            _ => return None,
        })
    }

    /// Reads diffusers' configuration of an `AutoencoderKL`. What it leaves out is at diffusers' default. `force_upcast`
    /// tells nothing that Kiln has to know: in f16 it finds what overflows by itself.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        match reader.str("_class_name")? {
            None | Some("AutoencoderKL") => {}
            Some(other) => return Err(Error::Config(format!("{other} is no AutoencoderKL"))),
        }
        for (key, known) in
            [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
        {
            if let Some(other) =
                reader.strings(key)?.unwrap_or_default().into_iter().find(|kind| *kind != known)
            {
                return Err(Error::Config(format!(
                    "{key} has {other:?}, and Kiln's AutoencoderKL {known} alone"
                )));
            }
        }
        reader.flag("force_upcast")?;
        let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
        let flag = |key: &str| Ok::<_, Error>(reader.flag(key)?.unwrap_or(true));
        let blocks = reader.sizes("block_out_channels")?.unwrap_or_else(|| vec![64]);
        for key in ["down_block_types", "up_block_types"] {
            let count = reader.strings(key)?.map_or(blocks.len(), |kinds| kinds.len());
            if count != blocks.len() {
                let reason =
                    format!("{key} names {count} blocks, and block_out_channels has {}", blocks.len());
                return Err(Error::Config(reason));
            }
        }
        Ok(Self {
            in_channels: size("in_channels", 3)?,
            out_channels: size("out_channels", 3)?,
            block_out_channels: blocks,
            layers_per_block: size("layers_per_block", 1)?,
            latent_channels: size("latent_channels", 4)?,
            norm_num_groups: size("norm_num_groups", 32)?,
            act_fn: reader.activation("act_fn")?.unwrap_or(Unary::Silu),
            sample_size: reader.pair("sample_size")?.map_or(32, |[height, _]| height),
            scaling: Scaling::read(reader, 0.18215)?,
            use_quant_conv: flag("use_quant_conv")?,
            use_post_quant_conv: flag("use_post_quant_conv")?,
            mid_block_add_attention: flag("mid_block_add_attention")?,
        })
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
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
        if let Some([_, inputs]) = shape("encoder.conv_in.weight".into()) {
            self.in_channels = inputs;
        }
        if let Some([_, latent]) = shape("decoder.conv_in.weight".into()) {
            self.latent_channels = latent;
        }
        if let Some([outputs, _]) = shape("decoder.conv_out.weight".into()) {
            self.out_channels = outputs;
        }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        let (blocks, groups) = (&self.block_out_channels, self.norm_num_groups);
        if blocks.is_empty() || blocks.len() > MAX_DEPTH || self.layers_per_block > MAX_DEPTH {
            let layers = self.layers_per_block;
            return wrong(format!(
                "{} blocks of {layers} layers are not 1 to {MAX_DEPTH} of each",
                blocks.len()
            ));
        }
        if let Some(channels) =
            blocks.iter().find(|&&channels| groups == 0 || channels == 0 || !channels.is_multiple_of(groups))
        {
            return wrong(format!("{groups} groups do not divide a block's {channels} channels"));
        }
        if [self.in_channels, self.out_channels, self.latent_channels].contains(&0) {
            return wrong("images and latents have to have channels".into());
        }
        self.scaling.check(self.latent_channels)?;
        Ok(self)
    }
}
