//! Euler's method with fresh noise at each step, as in "Denoising Diffusion Probabilistic Models" (Ho et al. 2020,
//! <https://arxiv.org/abs/2006.11239>), in noise levels.

use super::betas::alphas_cumprod_above_zero;
use super::convert::{clean_at, derivative};
use super::euler::noised;
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Curve, Ladder, Last, Levels, input_scale};
use super::spacing::Timesteps;
use super::{Method, Options, SchedulerError, Table};

/// `EulerAncestralDiscreteScheduler`.
#[derive(Clone, Debug)]
pub(super) struct EulerAncestral {
    ladder: Ladder,
    prediction: Prediction,
}

impl EulerAncestral {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        let alphas_cumprod = alphas_cumprod_above_zero(settings, 0.0001, 0.02)?;
        Ok(Self {
            ladder: Ladder {
                levels: Levels::new(&alphas_cumprod),
                timesteps: Timesteps::read(settings, "linspace")?,
                curve: Curve::Training,
                last: Last::Zero,
                bounds: [None, None],
            },
            prediction: settings.prediction(&[Prediction::Epsilon, Prediction::Velocity])?,
        })
    }
}

impl Method for EulerAncestral {
    fn table(&self, steps: usize) -> Table {
        let (timesteps, sigmas) = self.ladder.rungs(steps);
        let sigmas = self.ladder.with_last(sigmas);
        Table { initial_sigma: self.ladder.initial_sigma(&sigmas), sigmas, ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        timesteps
            .map(|(i, &timestep)| {
                let (sigma, next) = (table.sigma(i), table.sigma(i + 1));
                let (up, down) = ancestral(sigma, next);
                let direction = derivative(&clean_at(self.prediction, sigma), sigma);
                let latents = Sum::of(Slot::Latents, 1.0).plus(down - sigma, &direction).and(Slot::Noise, up);
                Step {
                    timestep,
                    input_scale: input_scale(sigma),
                    updates: vec![Update::new(Slot::Latents, latents)],
                }
            })
            .collect()
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(table, index)
    }
}

/// How much noise is added on the way from one level to the next, and the level to which the step goes before that.
pub(super) fn ancestral(from: f64, to: f64) -> (f64, f64) {
    let up = to * ((from - to) * (from + to)).max(0.0).sqrt() / from;
    // The root of `to^2 - up^2`.
    (up, to * to / from)
}
