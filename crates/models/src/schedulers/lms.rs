//! A linear multistep method in noise levels (Adams and Bashforth's with steps of any length), as k-diffusion has it.

use super::betas::alphas_cumprod_as_trained;
use super::convert::{clean_at, derivative};
use super::euler::noised;
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Ladder, input_scale};
use super::{Method, Options, SchedulerError, Table};

/// Directions that a step uses; tensors 0 to 3 in turn.
const ORDER: usize = 4;

/// `LMSDiscreteScheduler`.
#[derive(Clone, Debug)]
pub(super) struct Lms {
    ladder: Ladder,
    prediction: Prediction,
}

impl Lms {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        let alphas_cumprod = alphas_cumprod_as_trained(settings, 0.0001, 0.02)?;
        Ok(Self {
            ladder: Ladder::read(settings, &alphas_cumprod)?,
            prediction: settings.prediction(&Prediction::ALL)?,
        })
    }
}

impl Method for Lms {
    fn table(&self, steps: usize) -> Table {
        let (timesteps, sigmas) = self.ladder.rungs(steps);
        let sigmas = self.ladder.with_last(sigmas);
        Table { initial_sigma: self.ladder.initial_sigma(&sigmas), sigmas, ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let timesteps = table.timesteps.iter().enumerate().skip(options.first);
        timesteps
            .map(|(i, &timestep)| {
                let (sigma, count) = (table.sigma(i), i - options.first);
                let kept = |back: usize| Slot::Kept((count + ORDER - back) % ORDER);
                // The order is that of a schedule from noise, also where fewer directions are there.
                let order = ORDER.min(i + 1);
                let latents = (0..order.min(count + 1)).fold(Sum::of(Slot::Latents, 1.0), |sum, back| {
                    sum.and(kept(back), weight(table, i, order, back))
                });
                let direction = derivative(&clean_at(self.prediction, sigma), sigma);
                let updates = vec![Update::new(kept(0), direction), Update::new(Slot::Latents, latents)];
                Step { timestep, input_scale: input_scale(sigma), updates }
            })
            .collect()
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(table, index)
    }
}

/// The integral, from a noise level to the next, of the polynomial that is 1 at the level `back` evaluations ago and 0 at
/// the other `order - 1`. Gauss's rule with two points is exact for polynomials of up to the third degree.
fn weight(table: &Table, index: usize, order: usize, back: usize) -> f64 {
    let (from, to) = (table.sigma(index), table.sigma(index + 1));
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    let polynomial = |sigma: f64| -> f64 {
        let others = (0..order).filter(|&other| other != back).map(|other| table.sigma(index - other));
        let own = table.sigma(index - back);
        others.map(|other| (sigma - other) / (own - other)).product()
    };
    let point = half / 3f64.sqrt();
    half * (polynomial(middle - point) + polynomial(middle + point))
}
