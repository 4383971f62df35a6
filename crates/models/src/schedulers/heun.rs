//! Heun's method in noise levels (Karras et al. 2022, <https://arxiv.org/abs/2206.00364>, algorithm 1): every step but
//! the last evaluates the model at both of its ends.

use super::betas::alphas_cumprod_as_trained;
use super::convert::{clean_at, clipped, derivative};
use super::euler::noised;
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Ladder, input_scale};
use super::{Method, Options, SchedulerError, Table};

const DIRECTION: Slot = Slot::Kept(0);
const START: Slot = Slot::Kept(1);
const CLIPPED: Slot = Slot::Kept(2);

/// `HeunDiscreteScheduler`.
#[derive(Clone, Debug)]
pub(super) struct Heun {
    ladder: Ladder,
    prediction: Prediction,
    clip: Option<f64>,
}

impl Heun {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        let alphas_cumprod = alphas_cumprod_as_trained(settings, 0.00085, 0.012)?;
        Ok(Self {
            ladder: Ladder::read(settings, &alphas_cumprod)?,
            prediction: settings.prediction(&Prediction::ALL)?,
            clip: settings.clip(false)?,
        })
    }

    /// The evaluation at the start of a step from `sigma` to `next`, after which the latents are Euler's.
    fn start(&self, timestep: f64, sigma: f64, next: f64) -> Step {
        let (mut updates, clean) = clipped(clean_at(self.prediction, sigma), self.clip, CLIPPED);
        updates.push(Update::new(DIRECTION, derivative(&clean, sigma)));
        updates.push(Update::new(START, Sum::of(Slot::Latents, 1.0)));
        let latents = Sum::of(Slot::Latents, 1.0).and(DIRECTION, next - sigma);
        updates.push(Update::new(Slot::Latents, latents));
        Step { timestep, input_scale: input_scale(sigma), updates }
    }

    /// The evaluation at its end, after which the step is done again in the mean direction.
    fn end(&self, timestep: f64, sigma: f64, next: f64) -> Step {
        let (mut updates, clean) = clipped(clean_at(self.prediction, next), self.clip, CLIPPED);
        let half = (next - sigma) / 2.0;
        let latents = Sum::of(START, 1.0).and(DIRECTION, half).plus(half, &derivative(&clean, next));
        updates.push(Update::new(Slot::Latents, latents));
        Step { timestep, input_scale: input_scale(next), updates }
    }
}

impl Method for Heun {
    fn table(&self, steps: usize) -> Table {
        let (timesteps, sigmas) = self.ladder.rungs(steps);
        let sigmas = twice(&self.ladder.with_last(sigmas), true);
        let initial_sigma = self.ladder.initial_sigma(&sigmas);
        Table { sigmas, initial_sigma, ..Table::plain(twice(&timesteps, false)) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        timesteps
            .map(|(i, &timestep)| match i % 2 {
                0 => self.start(timestep, table.sigma(i), table.sigma(i + 1)),
                _ => self.end(timestep, table.sigma(i - 1), table.sigma(i)),
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

/// All values but the first, and with `open_end` but the last, two times.
pub(super) fn twice(values: &[f64], open_end: bool) -> Vec<f64> {
    let last = values.len() - 1;
    let times = |i: usize| if i == 0 || (open_end && i == last) { 1 } else { 2 };
    values.iter().enumerate().flat_map(|(i, &value)| std::iter::repeat_n(value, times(i))).collect()
}
