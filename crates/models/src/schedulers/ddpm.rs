//! "Denoising Diffusion Probabilistic Models" (Ho et al. 2020, <https://arxiv.org/abs/2006.11239>).

use super::betas::alphas_cumprod;
use super::convert::{clean, clipped};
use super::ddim::{noised, share};
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::spacing::Timesteps;
use super::{Method, Options, SchedulerError, Table};

/// The least variance of the noise that is added.
const LEAST: f64 = 1e-20;

/// `DDPMScheduler`.
#[derive(Clone, Debug)]
pub(super) struct Ddpm {
    alphas_cumprod: Vec<f32>,
    timesteps: Timesteps,
    prediction: Prediction,
    clip: Option<f64>,
    /// The noise's variance is beta, not the posterior's.
    large: bool,
}

impl Ddpm {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        settings.refuse(&["thresholding"])?;
        Ok(Self {
            alphas_cumprod: alphas_cumprod(settings, 0.0001, 0.02, "linear")?,
            timesteps: Timesteps::read(settings, "leading")?,
            prediction: settings.prediction(&Prediction::ALL)?,
            clip: settings.clip(true)?,
            large: match settings.str("variance_type", "fixed_small")? {
                // The logarithm is taken back before it is used.
                "fixed_small" | "fixed_small_log" => false,
                "fixed_large" => true,
                other => return Err(settings.unsupported("variance_type", other)),
            },
        })
    }

    /// From a timestep to another, which is below 0 at the end.
    fn step(&self, timestep: f64, next: f64) -> Step {
        let at = share(&self.alphas_cumprod, timestep, 1.0);
        let before = share(&self.alphas_cumprod, next, 1.0);
        let (alpha, beta) = (at / before, 1.0 - at / before);
        let clean = clean(self.prediction, at.sqrt(), (1.0 - at).sqrt());
        let (mut updates, clean) = clipped(clean, self.clip, Slot::Kept(0));
        let variance = if self.large { beta } else { ((1.0 - before) / (1.0 - at) * beta).max(LEAST) };
        let deviation = if timestep > 0.0 { variance.sqrt() } else { 0.0 };
        let latents = clean
            .times(before.sqrt() * beta / (1.0 - at))
            .and(Slot::Latents, alpha.sqrt() * (1.0 - before) / (1.0 - at))
            .and(Slot::Noise, deviation);
        updates.push(Update::new(Slot::Latents, latents));
        Step { timestep, input_scale: 1.0, updates }
    }
}

impl Method for Ddpm {
    fn table(&self, steps: usize) -> Table {
        Table::plain(self.timesteps.whole(steps))
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        let next = |i: usize| table.timesteps.get(i + 1).copied().unwrap_or(-1.0);
        timesteps.map(|(i, &timestep)| self.step(timestep, next(i))).collect()
    }

    fn reach(&self) -> Option<usize> {
        Some(self.alphas_cumprod.len())
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(&self.alphas_cumprod, table, index)
    }
}
