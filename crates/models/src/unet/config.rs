//! Sizes and options of Stable Diffusion's UNets.

mod fit;
mod json;

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use crate::Error;
use crate::weights::Weights;

/// Most stages, residual blocks of a stage and layers of a transformer that a configuration may ask for.
const MAX_PARTS: usize = 64;

/// Sizes and options. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of `sample`: 4 of the latents, and 5 more where the model paints into a masked picture.
    pub in_channels: usize,
    /// Height and width of the latents that it was trained on.
    pub sample_size: [usize; 2],
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Whether `sample` is doubled and 1 is taken off it before all.
    pub center_input_sample: bool,
    /// Sides of the first convolution's squares.
    pub conv_in_kernel: usize,
    /// Sides of the last convolution's squares.
    pub conv_out_kernel: usize,
    /// Stages on the way down; behind each but the last the image is halved.
    pub down: Vec<Stage>,
    /// The stage in the middle, without a transformer behind its last residual block.
    pub mid: Option<Stage>,
    /// Stages on the way up, each with one residual block more than its counterpart; behind each but the last the image is
    /// doubled.
    pub up: Vec<Stage>,
    /// Zeros around an image that is halved; with 0 there are some behind its last row and column alone.
    pub downsample_padding: usize,
    /// What the residual blocks of the middle are divided by.
    pub mid_block_scale_factor: f32,
    /// Activation of the residual blocks and of the time embedding.
    pub act_fn: Unary,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// Added to the variances of those outside the transformers.
    pub norm_eps: f32,
    /// Whether a transformer begins and ends with a linear layer, not with a 1x1 convolution.
    pub use_linear_projection: bool,
    /// How timesteps are embedded.
    pub time: Time,
    /// Width of a prompt's tokens where they are projected to what the attentions want.
    pub encoder_hid_dim: Option<usize>,
}

/// Residual blocks on images of one size, with or without transformers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Channels of its images.
    pub channels: usize,
    /// Number of residual blocks.
    pub resnets: usize,
    /// Its transformers, one behind each residual block.
    pub attention: Option<Attention>,
}

/// Transformers of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Attention heads.
    pub heads: usize,
    /// Width of the tokens that they look at.
    pub cross_attention_dim: usize,
    /// Whether pixels look at the prompt where they would look at each other.
    pub only_cross: bool,
    /// Layers of each.
    pub layers: Vec<usize>,
}

/// How timesteps are embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct Time {
    /// Sines and cosines of a timestep.
    pub sines: usize,
    /// Width of the embedding.
    pub width: usize,
    /// Whether the cosines come first.
    pub flip_sin_to_cos: bool,
    /// Stretches the frequencies.
    pub freq_shift: f32,
    /// Activation behind the embedding's linear layers.
    pub post_act: Option<Unary>,
    /// Activation behind the class embedding.
    pub act: Option<Unary>,
    /// Width of `timestep_cond`, the embedded guidance scale of a latent consistency model.
    pub cond: Option<usize>,
    /// What classes add.
    pub class: Option<ClassEmbedding>,
    /// Whether residual blocks take a factor and a summand behind their second norm, not a summand before it.
    pub scale_shift: bool,
}

/// What `class_labels` are, and how they become an addend of the time embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassEmbedding {
    /// One of so many classes, each with an embedding of its own.
    Table(usize),
    /// Another timestep, with linear layers of its own.
    Timestep,
    /// The addend itself.
    Identity,
    /// A vector of this width for two linear layers.
    Projection(usize),
    /// A vector of this width for a linear layer.
    SimpleProjection(usize),
}

impl Config {
    fn preset(
        side: usize,
        heads: [usize; 4],
        cross_attention_dim: usize,
        use_linear_projection: bool,
    ) -> Self {
        let stage = |i: usize, resnets: usize| {
            let layers = vec![1; resnets];
            let heads = heads.get(i).copied().unwrap_or(1);
            let attention = Attention { heads, cross_attention_dim, only_cross: false, layers };
            let channels = [320, 640, 1280, 1280].get(i).copied().unwrap_or(1280);
            Stage { channels, resnets, attention: (i < 3).then_some(attention) }
        };
        let middle = Attention {
            heads: heads.last().copied().unwrap_or(1),
            cross_attention_dim,
            only_cross: false,
            layers: vec![1],
        };
        Self {
            in_channels: 4,
            sample_size: [side; 2],
            out_channels: 4,
            center_input_sample: false,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            down: (0..4).map(|i| stage(i, 2)).collect(),
            mid: Some(Stage { channels: 1280, resnets: 2, attention: Some(middle) }),
            up: (0..4).rev().map(|i| stage(i, 3)).collect(),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: Unary::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            use_linear_projection,
            time: Time {
                sines: 320,
                width: 1280,
                flip_sin_to_cos: true,
                freq_shift: 0.0,
                post_act: None,
                act: None,
                cond: None,
                class: None,
                scale_shift: false,
            },
            encoder_hid_dim: None,
        }
    }

    /// Stable Diffusion 1.x: 860 M parameters (`stable-diffusion-v1-5/stable-diffusion-v1-5`).
    pub fn sd1() -> Self {
        Self::preset(64, [8; 4], 768, false)
    }

    /// Stable Diffusion 2.x: 866 M parameters (`stabilityai/stable-diffusion-2-1`).
    pub fn sd2() -> Self {
        Self::preset(96, [5, 10, 20, 20], 1024, true)
    }

    /// The preset of this name: `sd1` or `sd2`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sd1" => Self::sd1(),
            "sd2" => Self::sd2(),
            _ => return None,
        })
    }

    /// Reads diffusers' configuration of a `UNet2DConditionModel`. [`Error::Config`] where it asks for what Stable Diffusion
    /// 1.x and 2.x do not have and Kiln does not do. `attention_head_dim` is the number of heads, as diffusers takes it.
    /// Options that diffusers gives to other kinds of blocks alone, such as `resnet_out_scale_factor`, change nothing, and
    /// neither does `upcast_attention`: softmax is always f32.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        json::read(json)
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights) {
        fit::fit(self, weights);
    }

    /// Channels behind the first convolution.
    pub(super) fn first_channels(&self) -> usize {
        self.down.first().map_or(0, |stage| stage.channels)
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        if self.down.is_empty() || self.down.len() != self.up.len() || self.down.len() > MAX_PARTS {
            let (down, up) = (self.down.len(), self.up.len());
            return wrong(format!("{down} blocks on the way down and {up} up make no UNet"));
        }
        for (path, stage) in self.stages() {
            let Stage { channels, resnets, attention } = stage;
            if *resnets == 0 || *resnets > MAX_PARTS {
                return wrong(format!("{path} has {resnets} residual blocks, not 1 to {MAX_PARTS}"));
            }
            let groups = self.norm_num_groups;
            if *channels == 0 || groups == 0 || !channels.is_multiple_of(groups) {
                return wrong(format!("{groups} groups do not divide the {channels} channels of {path}"));
            }
            let Some(Attention { heads, layers, .. }) = attention else { continue };
            if *heads == 0 || !channels.is_multiple_of(*heads) {
                return wrong(format!("{path} cannot share {channels} channels by {heads} attention heads"));
            }
            if layers.iter().any(|&count| count > MAX_PARTS) {
                return wrong(format!("{path} has transformers of more than {MAX_PARTS} layers"));
            }
        }
        let resnets = |stages: &[Stage]| stages.iter().map(|stage| stage.resnets).sum::<usize>();
        let (left, taken) = (resnets(&self.down) + self.down.len(), resnets(&self.up));
        if left != taken {
            return wrong(format!("the way down leaves {left} images, and the way up takes {taken}"));
        }
        if [self.conv_in_kernel, self.conv_out_kernel].iter().any(|kernel| kernel.is_multiple_of(2)) {
            return wrong("conv_in_kernel and conv_out_kernel have to be odd".into());
        }
        let factor = self.mid_block_scale_factor;
        if !factor.is_normal() {
            return wrong(format!("mid_block_scale_factor is {factor}, by which nothing can be divided"));
        }
        let widths = self.crossings().into_iter().map(|crossing| crossing.tokens);
        let widths: std::collections::BTreeSet<usize> = widths.collect();
        if widths.len() > 1 {
            return wrong("cross_attention_dim differs between blocks that look at one prompt".into());
        }
        Ok(self)
    }
}
