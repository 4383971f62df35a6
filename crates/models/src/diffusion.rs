//! Sampling of diffusion models: from noise to latents, on the device from the first step to the last.
//!
//! A [`Sampler`] holds a UNet on a device. The latents, what the scheduler keeps and the keys and values of the prompts lie
//! on the device as states; a step uploads a row of numbers that the timestep comes to and the scheduler's few factors. A step is
//! encoded while the one before it runs: no step waits for the host unless somebody wants to see the latents. What a step leaves
//! is copied out beside the next one, so that a lost device costs no more than the steps that were under way.

mod matrices;
mod run;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};

use crate::prepared::Prepared;
use crate::schedulers::Schedule;
use crate::unet::UNet;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner};

use matrices::Matrices;
use run::Run;
use step::Shape;

/// What samples: a UNet on a device. Compiled graphs are kept for the next pictures of the same size.
pub struct Sampler {
    device: Device,
    unet: UNet,
    weights: SharedWeights,
    precision: Precision,
    steps: Prepared<Shape>,
    checkpoint: Option<Checkpoint>,
}

/// What a sampler starts from and is led by. Tensors are f32, images with channels last.
#[derive(Clone, Debug)]
pub struct Sampling<'a> {
    /// The steps.
    pub schedule: &'a Schedule,
    /// The latents to begin with, `[batch, height, width, channels]`: noise times [`Schedule::initial_sigma`], or a picture's
    /// latents noised as [`Schedule::noised`] tells.
    pub latents: Tensor,
    /// The prompts' embeddings, `[batch, tokens, width]`.
    pub prompt: Tensor,
    /// Where the pictures are to be led away from, and how far.
    pub guidance: Option<Guidance>,
    /// What a UNet sees besides the latents, `[batch, height, width, in_channels - channels]`: for inpainting the mask, then
    /// the latents of the masked picture.
    pub condition: Option<Tensor>,
    /// A part of a picture that is to stay.
    pub mask: Option<Mask>,
    /// For models that take the scale of their guidance as an input: that scale.
    pub embedded_guidance: Option<f32>,
}

/// Classifier-free guidance: "Classifier-Free Diffusion Guidance" (Ho and Salimans 2022, <https://arxiv.org/abs/2207.12598>).
#[derive(Clone, Debug)]
pub struct Guidance {
    /// The negative prompts' embeddings, `[batch, tokens, width]`.
    pub negative: Tensor,
    /// Factor of the difference between the outputs for the prompt and for the negative one.
    pub scale: f32,
    /// How much of the spread of the prompt's output the guided output gets back, from 0 for none to 1 for all: "Common
    /// Diffusion Noise Schedules and Sample Steps are Flawed" (Lin et al. 2023, <https://arxiv.org/abs/2305.08891>).
    pub rescale: f32,
}

/// A part of a picture that stays as it is.
#[derive(Clone, Debug)]
pub struct Mask {
    /// The picture's latents, in the shape of [`Sampling::latents`].
    pub clean: Tensor,
    /// The noise that the latents began with, in the same shape.
    pub noise: Tensor,
    /// 1 where the picture changes and 0 where it stays, in the same shape.
    pub mask: Tensor,
}

/// What so many steps of a schedule left.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Steps that are done.
    steps: usize,
    /// The latents and what the scheduler keeps, a row each.
    rows: Tensor,
}

impl Checkpoint {
    /// How many steps are done.
    pub fn steps(&self) -> usize {
        self.steps
    }
}

/// A step that is done.
#[derive(Debug)]
pub struct Progress {
    /// Its number, from 0.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The latents behind it, `[batch, height, width, channels]`, where they were asked for.
    pub latents: Option<Tensor>,
}

/// Who hears of steps.
pub trait Watch {
    /// Whether the latents behind a step are wanted: they are then read back, for which the device has to be waited for.
    fn wants(&self, step: usize) -> bool;

    /// A step is done, or where its latents were not wanted at least submitted. Breaking ends the sampling with
    /// [`kiln_engine::Error::Cancelled`].
    fn see(&mut self, progress: Progress) -> ControlFlow<()>;
}

/// Nobody.
impl Watch for () {
    fn wants(&self, _: usize) -> bool {
        false
    }

    fn see(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Sampler {
    /// A sampler for a UNet of these weights. In f16, latents and sums over steps stay f32.
    /// [`Error::Config`] where the UNet wants classes, which nothing here has.
    pub fn new(
        device: Device,
        unet: UNet,
        weights: SharedWeights,
        precision: Precision,
    ) -> Result<Self, Error> {
        crate::folder::check_precision(&device, precision)?;
        if unet.config().time.class.is_some() {
            return Err(Error::Config("the UNet wants classes besides prompts".into()));
        }
        Ok(Self { device, unet, weights, precision, steps: Prepared::new(), checkpoint: None })
    }

    /// The UNet.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// How weights and activations are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        crate::folder::check_precision(&device, self.precision)?;
        self.release();
        self.device = device;
        Ok(())
    }

    /// What the last finished step of the latest sampling left, also where it failed.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Lets go of what is compiled, and of the memory that it holds on the device.
    pub fn release(&mut self) {
        self.steps.clear();
    }

    /// Bytes that the step which was compiled last holds on the device; `None` on the CPU reference.
    pub fn memory(&self) -> Option<kiln_engine::MemoryReport> {
        self.steps.runners().last()?.session().map(|session| session.memory())
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.steps.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    /// Carries a schedule out and gives the latents at its end, `[batch, height, width, channels]`. `noise` is asked for
    /// standard normal numbers in the latents' shape for every step that adds fresh noise, before the first of them.
    /// [`Error::Input`] where shapes do not fit.
    pub async fn sample(
        &mut self,
        sampling: &Sampling<'_>,
        noise: &mut dyn FnMut() -> Result<Tensor, Error>,
        watch: &mut dyn Watch,
    ) -> Result<Tensor, Error> {
        self.resume(sampling, None, noise, watch).await
    }

    /// The same behind the steps of a checkpoint, which were done with the same sampling and the same noise.
    pub async fn resume(
        &mut self,
        sampling: &Sampling<'_>,
        checkpoint: Option<Checkpoint>,
        noise: &mut dyn FnMut() -> Result<Tensor, Error>,
        watch: &mut dyn Watch,
    ) -> Result<Tensor, Error> {
        self.checkpoint = None;
        let matrices = Matrices::of(sampling.schedule);
        let shape = self.shape(sampling, &matrices)?;
        if let Some(Checkpoint { steps, rows }) = &checkpoint {
            let all = sampling.schedule.steps.len();
            if rows.shape() != [shape.kept, shape.length()] || *steps > all {
                return Err(Error::Input("the checkpoint is of another sampling".into()));
            }
            if *steps == all {
                let latents = shape.latents(rows);
                self.checkpoint = checkpoint;
                return latents;
            }
        }
        self.checkpoint = checkpoint;
        let mut noises = Vec::new();
        for step in sampling.schedule.steps.iter().filter(|_| matrices.noise) {
            let row =
                if step.needs_noise() { noise()?.to_f32().into_owned() } else { vec![0.0; shape.length()] };
            noises.push(tensor([1, shape.length()], row)?);
        }
        let prompt = self.prompt(sampling, &shape).await?;
        let time = self.time(sampling).await?;
        let (device, unet, weights, precision) = (&self.device, &self.unet, &self.weights, self.precision);
        let make = async {
            let (graph, mut keep_f32) = step::graph(unet, &shape)?;
            keep_f32.extend(unet.keep_f32(&graph));
            Runner::new(device, &graph, weights.clone(), precision, keep_f32, &mut |_, _| {}).await
        };
        let (_, runner) = self.steps.get(shape, |other| *other == shape, make).await?;
        for (name, tensor) in prompt {
            runner.set_state(&name, &tensor).await?;
        }
        let checkpoint = &mut self.checkpoint;
        Run { runner, sampling, shape, matrices, time, noises, checkpoint }.all(watch).await
    }

    fn shape(&self, sampling: &Sampling<'_>, matrices: &Matrices) -> Result<Shape, Error> {
        let wrong = |reason: String| Err(Error::Input(reason));
        let config = self.unet.config();
        let &[batch, height, width, channels] = sampling.latents.shape() else {
            return wrong(format!("latents are {}, not a batch of images", sampling.latents.desc()));
        };
        let &[prompts, tokens, _] = sampling.prompt.shape() else {
            return wrong(format!("prompts are {}, not [batch, tokens, width]", sampling.prompt.desc()));
        };
        if prompts != batch {
            return wrong(format!("there are {prompts} prompts for {batch} pictures"));
        }
        if channels != config.out_channels {
            return wrong(format!(
                "latents have {channels} channels, but the UNet gives {}",
                config.out_channels
            ));
        }
        if let Some(guidance) = &sampling.guidance {
            if guidance.negative.shape() != sampling.prompt.shape() {
                let (negative, prompt) = (guidance.negative.desc(), sampling.prompt.desc());
                return wrong(format!("negative prompts are {negative} and prompts {prompt}"));
            }
            if !guidance.scale.is_finite() || !(0.0..=1.0).contains(&guidance.rescale) {
                let (scale, rescale) = (guidance.scale, guidance.rescale);
                return wrong(format!("a guidance of {scale}, rescaled by {rescale}, leads nowhere"));
            }
        }
        let more = config.in_channels.saturating_sub(channels);
        let has = sampling.condition.as_ref().map_or(0, |condition| condition.desc().last());
        if has != more {
            return wrong(format!("the UNet sees {more} channels besides the latents', and there are {has}"));
        }
        if let Some(mask) = &sampling.mask {
            for (name, tensor) in [("mask", &mask.mask), ("picture", &mask.clean), ("noise", &mask.noise)] {
                if tensor.shape() != sampling.latents.shape() {
                    let (has, wants) = (tensor.desc(), sampling.latents.desc());
                    return wrong(format!("the {name} is {has} and the latents are {wants}"));
                }
            }
        }
        Ok(Shape {
            batch,
            size: [height, width],
            channels,
            tokens,
            guided: sampling.guidance.is_some(),
            rescaled: sampling.guidance.as_ref().is_some_and(|guidance| guidance.rescale != 0.0),
            conditioned: sampling.condition.is_some(),
            masked: sampling.mask.is_some(),
            rows: matrices.rows,
            kept: matrices.kept,
            products: matrices.products,
            noise: matrices.noise,
        })
    }

    /// Keys and values of the prompts, those of the negative ones first.
    async fn prompt(&self, sampling: &Sampling<'_>, shape: &Shape) -> Result<Vec<(String, Tensor)>, Error> {
        let states = match &sampling.guidance {
            Some(guidance) => joined(&guidance.negative, &sampling.prompt)?,
            None => sampling.prompt.clone(),
        };
        let graph = self.unet.prompt_graph(shape.prompts(), shape.tokens)?;
        let answer = self.once(&graph, &[("encoder_hidden_states", states)]).await?;
        let names = self.unet.prompt_shapes(shape.prompts(), shape.tokens).into_iter().map(|(name, _)| name);
        Ok(names.zip(answer).collect())
    }

    /// What every step's timestep comes to: a row each.
    async fn time(&self, sampling: &Sampling<'_>) -> Result<Vec<Tensor>, Error> {
        let steps = &sampling.schedule.steps;
        let timesteps = steps.iter().map(|step| step.timestep as f32).collect();
        let mut inputs = vec![("timesteps", tensor([steps.len()], timesteps)?)];
        if let Some(width) = self.unet.config().time.cond {
            let none = || vec![0.0; width];
            let row = sampling.embedded_guidance.map_or_else(none, |scale| embedding(scale, width));
            inputs.push(("timestep_cond", tensor([steps.len(), width], row.repeat(steps.len()))?));
        }
        let graph = self.unet.time_graph(steps.len())?;
        let answer = self.once(&graph, &inputs).await?;
        let width = self.unet.time_width();
        let rows = answer.first().map(Tensor::to_f32).unwrap_or_default();
        rows.chunks(width.max(1)).map(|row| tensor([1, width], row.to_vec())).collect()
    }

    async fn once(&self, graph: &kiln_graph::Graph, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        let keep_f32 = self.unet.keep_f32(graph);
        let weights = self.weights.clone();
        let mut runner =
            Runner::new(&self.device, graph, weights, self.precision, keep_f32, &mut |_, _| {}).await?;
        runner.run(inputs).await
    }
}

fn tensor(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Tensor, Error> {
    Ok(Tensor::f32(shape, data).map_err(GraphError::from)?)
}

/// One batch behind the other.
fn joined(first: &Tensor, second: &Tensor) -> Result<Tensor, Error> {
    let mut shape = first.shape().to_vec();
    if let (Some(batch), Some(more)) = (shape.first_mut(), second.shape().first()) {
        *batch += more;
    }
    tensor(shape, [first.to_f32(), second.to_f32()].concat())
}

/// Sines and cosines of a guidance scale, as latent consistency models are given it: "Latent Consistency Models" (Luo et al.
/// 2023, <https://arxiv.org/abs/2310.04378>).
fn embedding(scale: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let angle = |i: usize| {
        let share = i as f64 / half.saturating_sub(1).max(1) as f64;
        (f64::from(scale) - 1.0) * 1000.0 * (-share * 10000f64.ln()).exp()
    };
    let sines = (0..half).map(|i| angle(i).sin() as f32);
    let cosines = (0..half).map(|i| angle(i).cos() as f32);
    sines.chain(cosines).chain(std::iter::repeat_n(0.0, width % 2)).collect()
}
