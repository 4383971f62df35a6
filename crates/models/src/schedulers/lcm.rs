//! "Latent Consistency Models" (Luo et al. 2023, <https://arxiv.org/abs/2310.04378>): each step predicts the clean sample
//! and noises it again.

use super::betas::alphas_cumprod;
use super::convert::{clean, clipped};
use super::ddim::{noised, share};
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::{Method, Options, SchedulerError, Table};

/// The standard deviation of the data, in the boundary condition.
const DATA: f64 = 0.5;

/// `LCMScheduler`.
#[derive(Clone, Debug)]
pub(super) struct Lcm {
    alphas_cumprod: Vec<f32>,
    prediction: Prediction,
    clip: Option<f64>,
    /// Steps of the schedule that the model was distilled on.
    original: usize,
    scaling: f64,
}

impl Lcm {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        settings.refuse(&["thresholding"])?;
        let original = settings.count("original_inference_steps", 50)?;
        if original == 0 || original > settings.training()? {
            return Err(settings.unsupported("original_inference_steps", original));
        }
        Ok(Self {
            alphas_cumprod: alphas_cumprod(settings, 0.00085, 0.012, "scaled_linear")?,
            prediction: settings.prediction(&Prediction::ALL)?,
            clip: settings.clip(false)?,
            original,
            scaling: settings.number("timestep_scaling", 10.0)?,
        })
    }

    /// From a timestep to another; none at the end.
    fn step(&self, timestep: f64, next: Option<f64>) -> Step {
        let at = share(&self.alphas_cumprod, timestep, 1.0);
        let clean = clean(self.prediction, at.sqrt(), (1.0 - at).sqrt());
        let (mut updates, clean) = clipped(clean, self.clip, Slot::Kept(0));
        let scaled = timestep * self.scaling;
        let skip = DATA * DATA / (scaled * scaled + DATA * DATA);
        let denoised = clean.times(scaled / scaled.hypot(DATA)).and(Slot::Latents, skip);
        let latents = match next {
            None => denoised,
            Some(next) => {
                let next = share(&self.alphas_cumprod, next, 1.0);
                denoised.times(next.sqrt()).and(Slot::Noise, (1.0 - next).sqrt())
            }
        };
        updates.push(Update::new(Slot::Latents, latents));
        Step { timestep, input_scale: 1.0, updates }
    }
}

impl Method for Lcm {
    fn table(&self, steps: usize) -> Table {
        let apart = self.alphas_cumprod.len() / self.original;
        let stride = self.original as f64 / steps as f64;
        let skipped = (0..steps).map(|i| (i as f64 * stride) as usize);
        Table::plain(skipped.map(|i| (self.original.saturating_sub(i) * apart) as f64 - 1.0).collect())
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        timesteps.map(|(i, &timestep)| self.step(timestep, table.timesteps.get(i + 1).copied())).collect()
    }

    fn reach(&self) -> Option<usize> {
        Some(self.alphas_cumprod.len())
    }

    fn most_steps(&self) -> Option<usize> {
        Some(self.original)
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(&self.alphas_cumprod, table, index)
    }
}
