//! "Denoising Diffusion Implicit Models" (Song et al. 2020, <https://arxiv.org/abs/2010.02502>).

use super::betas::alphas_cumprod;
use super::convert::{clean, clipped, noise};
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::spacing::Timesteps;
use super::{Method, Options, SchedulerError, Table};

/// `DDIMScheduler`.
#[derive(Clone, Debug)]
pub(super) struct Ddim {
    alphas_cumprod: Vec<f32>,
    /// What stands for the timestep before the first.
    final_alpha: f64,
    timesteps: Timesteps,
    prediction: Prediction,
    clip: Option<f64>,
}

impl Ddim {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        settings.refuse(&["thresholding"])?;
        let alphas_cumprod = alphas_cumprod(settings, 0.0001, 0.02, "linear")?;
        Ok(Self {
            final_alpha: final_alpha(settings, &alphas_cumprod, true)?,
            alphas_cumprod,
            timesteps: Timesteps::read(settings, "leading")?,
            prediction: settings.prediction(&Prediction::ALL)?,
            clip: settings.clip(true)?,
        })
    }

    fn step(&self, timestep: f64, steps: usize, eta: f64) -> Step {
        let ratio = (self.timesteps.training / steps) as f64;
        let at = share(&self.alphas_cumprod, timestep, self.final_alpha);
        let before = share(&self.alphas_cumprod, timestep - ratio, self.final_alpha);
        let (alpha, sigma) = (at.sqrt(), (1.0 - at).sqrt());
        let variance = (1.0 - before) / (1.0 - at) * (1.0 - at / before);
        let deviation = if eta > 0.0 { eta * variance.sqrt() } else { 0.0 };
        let direction = (1.0 - before - deviation * deviation).sqrt();
        let (mut updates, clean) = clipped(clean(self.prediction, alpha, sigma), self.clip, Slot::Kept(0));
        let latents = clean
            .times(before.sqrt())
            .plus(direction, &noise(self.prediction, alpha, sigma))
            .and(Slot::Noise, deviation);
        updates.push(Update::new(Slot::Latents, latents));
        Step { timestep, input_scale: 1.0, updates }
    }
}

impl Method for Ddim {
    fn table(&self, steps: usize) -> Table {
        Table::plain(self.timesteps.whole(steps))
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().skip(options.first);
        timesteps.map(|&timestep| self.step(timestep, table.timesteps.len(), options.eta)).collect()
    }

    fn reach(&self) -> Option<usize> {
        Some(self.alphas_cumprod.len())
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(&self.alphas_cumprod, table, index)
    }
}

/// The share of the sample's variance at a timestep: `before` ahead of the first, NaN after the last.
pub(super) fn share(alphas_cumprod: &[f32], timestep: f64, before: f64) -> f64 {
    if timestep < 0.0 {
        return before;
    }
    alphas_cumprod.get(timestep as usize).map_or(f64::NAN, |&alpha| alpha.into())
}

/// The share that stands for the timestep before the first.
pub(super) fn final_alpha(
    settings: Settings,
    alphas_cumprod: &[f32],
    default: bool,
) -> Result<f64, SchedulerError> {
    let one = settings.flag("set_alpha_to_one", default)?;
    Ok(if one { 1.0 } else { share(alphas_cumprod, 0.0, 1.0) })
}

/// A clean sample, as the latents, with the noise of a schedule's timestep.
pub(super) fn noised(alphas_cumprod: &[f32], table: &Table, index: usize) -> Sum {
    let at = share(alphas_cumprod, table.timesteps.get(index).copied().unwrap_or(f64::NAN), 1.0);
    Sum::of(Slot::Latents, at.sqrt()).and(Slot::Noise, (1.0 - at).sqrt())
}
