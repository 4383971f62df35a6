//! Euler's method in noise levels ("Elucidating the Design Space of Diffusion-Based Generative Models", Karras et al.
//! 2022, <https://arxiv.org/abs/2206.00364>, algorithm 2 without churn).

use super::betas::alphas_cumprod_above_zero;
use super::convert::{clean_at, derivative};
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Ladder, Last, input_scale, rounded};
use super::{Method, Options, SchedulerError, Table};

/// `EulerDiscreteScheduler`.
#[derive(Clone, Debug)]
pub(super) struct Euler {
    ladder: Ladder,
    prediction: Prediction,
    /// The model is told a quarter of the logarithm of the noise level.
    continuous: bool,
}

impl Euler {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        let interpolation = settings.str("interpolation_type", "linear")?;
        if interpolation != "linear" {
            return Err(settings.unsupported("interpolation_type", interpolation));
        }
        let prediction = settings.prediction(&Prediction::ALL)?;
        let continuous = match settings.str("timestep_type", "discrete")? {
            "discrete" => false,
            "continuous" => prediction == Prediction::Velocity,
            other => return Err(settings.unsupported("timestep_type", other)),
        };
        let alphas_cumprod = alphas_cumprod_above_zero(settings, 0.0001, 0.02)?;
        Ok(Self {
            ladder: Ladder {
                last: Last::read(settings)?,
                bounds: [settings.optional("sigma_max")?, settings.optional("sigma_min")?],
                ..Ladder::read(settings, &alphas_cumprod)?
            },
            prediction,
            continuous,
        })
    }
}

impl Method for Euler {
    fn table(&self, steps: usize) -> Table {
        let (mut timesteps, sigmas) = self.ladder.rungs(steps);
        let sigmas = self.ladder.with_last(sigmas);
        if self.continuous {
            timesteps = sigmas.iter().take(timesteps.len()).map(|sigma| rounded(0.25 * sigma.ln())).collect();
        }
        Table { initial_sigma: self.ladder.initial_sigma(&sigmas), sigmas, ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        timesteps
            .map(|(i, &timestep)| {
                let (sigma, next) = (table.sigma(i), table.sigma(i + 1));
                let direction = derivative(&clean_at(self.prediction, sigma), sigma);
                let latents = Sum::of(Slot::Latents, 1.0).plus(next - sigma, &direction);
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

/// A clean sample, as the latents, with the noise of an evaluation's level.
pub(super) fn noised(table: &Table, index: usize) -> Sum {
    Sum::of(Slot::Latents, 1.0).and(Slot::Noise, table.sigma(index))
}
