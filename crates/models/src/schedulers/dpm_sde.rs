//! DPM-Solver++ (SDE) of k-diffusion: steps of two halves, each with fresh noise ("DPM-Solver++", Lu et al. 2022,
//! <https://arxiv.org/abs/2211.01095>).

use super::betas::alphas_cumprod_as_trained;
use super::convert::{clean_at, derivative};
use super::euler::noised;
use super::euler_ancestral::ancestral;
use super::heun::twice;
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Ladder, input_scale, rounded};
use super::{Method, Options, SchedulerError, Table};

const START: Slot = Slot::Kept(0);
/// The noise of the step's first half.
const HALF: Slot = Slot::Kept(1);

/// `DPMSolverSDEScheduler`.
///
/// diffusers takes the noise from one Brownian path over sigma, which the torchsde package makes from a seed of its own:
/// that path is not repeated here. A path's increments are independent, though, so the noise of a whole step is put
/// together from that of its first half and fresh noise for the second, which gives the same distribution.
#[derive(Clone, Debug)]
pub(super) struct DpmSde {
    ladder: Ladder,
    prediction: Prediction,
}

impl DpmSde {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        let alphas_cumprod = alphas_cumprod_as_trained(settings, 0.00085, 0.012)?;
        Ok(Self {
            ladder: Ladder::read(settings, &alphas_cumprod)?,
            prediction: settings.prediction(&[Prediction::Epsilon, Prediction::Velocity])?,
        })
    }

    /// The evaluation at the start of a step, which goes half the way to `next`; all of it where no noise is left there.
    fn start(&self, timestep: f64, sigma: f64, next: f64) -> Step {
        let clean = clean_at(self.prediction, sigma);
        let updates = if next > 0.0 {
            let (up, down) = ancestral(sigma, middle(sigma, next));
            let latents = towards(Slot::Latents, &clean, down / sigma).and(Slot::Noise, up);
            vec![
                Update::new(START, Sum::of(Slot::Latents, 1.0)),
                Update::new(HALF, Sum::of(Slot::Noise, 1.0)),
                Update::new(Slot::Latents, latents),
            ]
        } else {
            let latents = Sum::of(Slot::Latents, 1.0).plus(next - sigma, &derivative(&clean, sigma));
            vec![Update::new(Slot::Latents, latents)]
        };
        Step { timestep, input_scale: input_scale(sigma), updates }
    }

    /// The evaluation half way, after which the whole step is done from its start.
    fn halfway(&self, timestep: f64, sigma: f64, next: f64) -> Step {
        let middle = middle(sigma, next);
        let (up, down) = ancestral(sigma, next);
        let clean = clean_at(self.prediction, middle);
        let share = |from: f64, to: f64| ((from - to) / (sigma - next)).sqrt();
        let latents = towards(START, &clean, down / sigma)
            .and(HALF, up * share(sigma, middle))
            .and(Slot::Noise, up * share(middle, next));
        Step {
            timestep,
            input_scale: input_scale(middle),
            updates: vec![Update::new(Slot::Latents, latents)],
        }
    }
}

impl Method for DpmSde {
    fn table(&self, steps: usize) -> Table {
        let (timesteps, sigmas) = self.ladder.rungs(steps);
        let middles: Vec<f64> = sigmas
            .windows(2)
            .filter_map(|pair| match pair {
                [from, to] => Some(rounded(self.ladder.levels.timestep(middle(*from, *to)))),
                _ => None,
            })
            .collect();
        let mut timesteps = twice(&timesteps, false);
        for (timestep, middle) in timesteps.iter_mut().skip(1).step_by(2).zip(middles) {
            *timestep = middle;
        }
        let sigmas = twice(&self.ladder.with_last(sigmas), true);
        Table { initial_sigma: self.ladder.initial_sigma(&sigmas), sigmas, ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        timesteps
            .map(|(i, &timestep)| match i % 2 {
                0 => self.start(timestep, table.sigma(i), table.sigma(i + 1)),
                _ => self.halfway(timestep, table.sigma(i - 1), table.sigma(i)),
            })
            .collect()
    }

    /// Only where a step starts.
    fn order(&self) -> usize {
        2
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(table, index)
    }
}

/// Half the way between two noise levels, by their logarithms.
fn middle(from: f64, to: f64) -> f64 {
    (from * to).sqrt()
}

/// A share of the latents and for the rest the clean sample.
fn towards(latents: Slot, clean: &Sum, share: f64) -> Sum {
    Sum::of(latents, share).plus(1.0 - share, clean)
}
