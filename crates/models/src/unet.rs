//! Stable Diffusion's UNet: "High-Resolution Image Synthesis with Latent Diffusion Models" (Rombach et al. 2022,
//! <https://arxiv.org/abs/2112.10752>).
//!
//! Reads diffusers' `UNet2DConditionModel` as Stable Diffusion 1.x and 2.x and their fine-tunes have it, those for
//! inpainting and the latent consistency models among them. What depends on the prompt alone, the keys and values of every
//! attention to it, and what depends on the timestep alone, what is added within every residual block, are graphs of their
//! own, so that a sampler computes the one once a prompt and the other once a schedule. [`UNet::denoise`] is what is left
//! for a step, and [`UNet::graph`] all of it at once. Latents are `[batch, height, width, channels]` in all of them.

mod config;
mod denoise;
mod layout;
pub(crate) mod original;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod transformer;

use std::collections::BTreeSet;

use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::{Attention, ClassEmbedding, Config, Stage, Time};

use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// A UNet: its sizes, which are those of its weights.
#[derive(Clone, Debug)]
pub struct UNet {
    config: Config,
}

/// What a graph's latents and prompts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many latents, each with a timestep and a prompt of its own.
    pub batch: usize,
    /// Height and width of the latents: an eighth of the picture's.
    pub size: [usize; 2],
    /// Tokens of a prompt.
    pub tokens: usize,
}

impl UNet {
    /// The UNet that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        config.fit(weights);
        let unet = Self { config: config.checked()? };
        // One small graph shows all that the model wants.
        let side = 1 << unet.config.down.len();
        let graph = unet.graph(Shape { batch: 1, size: [side; 2], tokens: 1 }, &Taps::none())?;
        check(&graph, weights, &|_| false)?;
        Ok(unet)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What [`UNet::prompt_graph`] gives and [`UNet::denoise`] wants, in order: for every attention to a prompt its keys,
    /// then its values, side by side, `[batch, tokens, 2 * channels]`.
    pub fn prompt_shapes(&self, batch: usize, tokens: usize) -> Vec<(String, Vec<usize>)> {
        let crossings = self.config.crossings().into_iter();
        let shape = |width: usize| vec![batch, tokens, 2 * width];
        crossings.map(|crossing| (format!("{}.key_value", crossing.path), shape(crossing.width))).collect()
    }

    /// Keys and values of prompts. Input: `encoder_hidden_states` `[batch, tokens, cross_attention_dim]`. Outputs:
    /// [`UNet::prompt_shapes`]. [`Error::Input`] where there is no prompt or no token.
    pub fn prompt_graph(&self, batch: usize, tokens: usize) -> Result<Graph, Error> {
        not_empty(&[batch, tokens])?;
        let mut b = Builder::new();
        let states = self.encoder_hidden_states(&mut b, batch, tokens)?;
        let prompt = transformer::keys_and_values(&self.config, &mut b, states)?;
        for ((name, _), value) in self.prompt_shapes(batch, tokens).into_iter().zip(prompt) {
            b.output(name, value)?;
        }
        Ok(b.finish())
    }

    /// Width of what a timestep comes to: the sum of what its residual blocks take of it.
    pub fn time_width(&self) -> usize {
        self.config.time_widths().map(|(_, width)| width).sum()
    }

    /// What timesteps add within the residual blocks. Inputs: `timesteps` `[count]` and, where the model has them,
    /// `class_labels` and `timestep_cond`, as [`UNet::graph`] has them, for each timestep. Output: `time`
    /// `[count, time_width]`. [`Error::Input`] where there is no timestep.
    pub fn time_graph(&self, count: usize) -> Result<Graph, Error> {
        not_empty(&[count])?;
        let mut b = Builder::new();
        let time = self.time(&mut b, "timesteps", count, &Taps::none())?;
        b.output("time", time)?;
        Ok(b.finish())
    }

    /// What the model makes of noisy latents: the noise in them, or whatever else it was trained to predict,
    /// `[batch, height, width, out_channels]`.
    ///
    /// `sample` is `[batch, height, width, in_channels]`, `time` a row of [`UNet::time_graph`]'s answer for all latents or
    /// one for each, and `prompt` the answer of [`UNet::prompt_graph`]. Taps: `conv_in`, `mid_block` and, for `down`, `mid`
    /// and `up`, which but for `mid` have a number, `down0_resnet0`, `down0_attn0`, `down0_downsampler` and `up0_upsampler`.
    pub fn denoise(
        &self,
        b: &mut Builder,
        sample: Value,
        time: Value,
        prompt: &[Value],
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let wrong =
            |name: &str, reason: String| GraphError::Value { what: "input", name: name.into(), reason };
        let (has, wants) = (b.desc(time).last(), self.time_width());
        if has != wants || b.desc(time).rank() != 2 {
            return Err(wrong("time", format!("is {} and should have rows of {wants}", b.desc(time))));
        }
        let (has, wants) = (prompt.len(), self.config.crossings().len());
        if has != wants {
            return Err(wrong("prompt", format!("has keys and values for {has} attentions of {wants}")));
        }
        denoise::denoise(&self.config, b, sample, time, prompt, taps)
    }

    /// A step: [`UNet::denoise`] as a graph. Inputs: `sample` `[batch, height, width, in_channels]`, `time`
    /// `[1, time_width]` and [`UNet::prompt_shapes`]. Output: `sample` `[batch, height, width, out_channels]`.
    /// [`Error::Input`] where one of the sizes is 0.
    pub fn step_graph(&self, shape: Shape) -> Result<Graph, Error> {
        let Shape { batch, size: [height, width], tokens } = shape;
        not_empty(&[batch, height, width, tokens])?;
        let mut b = Builder::new();
        let sample = b.input("sample", [batch, height, width, self.config.in_channels], DType::F32)?;
        let time = b.input("time", [1, self.time_width()], DType::F32)?;
        let shapes = self.prompt_shapes(batch, tokens).into_iter();
        let prompt =
            shapes.map(|(name, shape)| b.input(name, shape, DType::F32)).collect::<Result<Vec<_>, _>>()?;
        let sample = self.denoise(&mut b, sample, time, &prompt, &Taps::none())?;
        b.output("sample", sample)?;
        Ok(b.finish())
    }

    /// All of it. Inputs: `sample` `[batch, height, width, in_channels]`, `timestep` `[batch]`, `encoder_hidden_states`
    /// `[batch, tokens, cross_attention_dim]`; `class_labels` where the model has a class embedding: `[batch]` in i32 for a
    /// table, `[batch]` for timesteps, else `[batch, width]`; `timestep_cond` `[batch, time_cond_proj_dim]` where the model
    /// takes a condition besides the timestep, of which zeros are none. Output: `sample`
    /// `[batch, height, width, out_channels]`. Taps: `time_embedding`, `class_embedding` and those of [`UNet::denoise`].
    /// [`Error::Input`] where one of the sizes is 0.
    pub fn graph(&self, shape: Shape, taps: &Taps) -> Result<Graph, Error> {
        let Shape { batch, size: [height, width], tokens } = shape;
        not_empty(&[batch, height, width, tokens])?;
        let mut b = Builder::new();
        let sample = b.input("sample", [batch, height, width, self.config.in_channels], DType::F32)?;
        let time = self.time(&mut b, "timestep", batch, taps)?;
        let states = self.encoder_hidden_states(&mut b, batch, tokens)?;
        let prompt = transformer::keys_and_values(&self.config, &mut b, states)?;
        let sample = self.denoise(&mut b, sample, time, &prompt, taps)?;
        b.output("sample", sample)?;
        Ok(b.finish())
    }

    /// Paths of the nodes that should stay f32 where the rest is stored in f16: those that see the timestep alone, which
    /// are a few rows, and in whose angles f16 loses fractions of large timesteps.
    pub fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        let kept = |path: &&String| path.starts_with("time_") || path.starts_with("class_embedding");
        graph.nodes().iter().map(|node| &node.path).filter(kept).cloned().collect()
    }

    fn encoder_hidden_states(
        &self,
        b: &mut Builder,
        batch: usize,
        tokens: usize,
    ) -> Result<Value, GraphError> {
        b.input("encoder_hidden_states", [batch, tokens, self.config.prompt_width()], DType::F32)
    }

    /// What the residual blocks take of `count` timesteps, which are the input `name`.
    fn time(&self, b: &mut Builder, name: &str, count: usize, taps: &Taps) -> Result<Value, GraphError> {
        let timesteps = b.input(name, [count], DType::F32)?;
        let conditions = time::Conditions::inputs(&self.config.time, b, count)?;
        time::time(&self.config, b, timesteps, conditions, taps)
    }
}

fn not_empty(sizes: &[usize]) -> Result<(), Error> {
    if sizes.contains(&0) {
        return Err(Error::Input("there is nothing to denoise: a size is 0".into()));
    }
    Ok(())
}
