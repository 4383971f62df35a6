//! "Pseudo Numerical Methods for Diffusion Models on Manifolds" (Liu et al. 2022, <https://arxiv.org/abs/2202.09778>).

use super::betas::alphas_cumprod_as_trained;
use super::ddim::{final_alpha, noised, share};
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::spacing::Timesteps;
use super::{Method, Options, SchedulerError, Table};

/// Model outputs that are kept: tensors 0 to 3.
const OUTPUTS: usize = 4;
/// The latents that several evaluations start from.
const START: Slot = Slot::Kept(OUTPUTS);
/// The mean of the outputs of one Runge-Kutta step, as far as it has got.
const MEAN: Slot = Slot::Kept(OUTPUTS + 1);
/// Evaluations of the three Runge-Kutta steps.
const RUNGE_KUTTA: usize = 12;

/// `PNDMScheduler`: linear multistep after three Runge-Kutta steps or, with `skip_prk_steps`, after one that evaluates
/// its second timestep twice (Stable Diffusion's `PLMSSampler`).
#[derive(Clone, Debug)]
pub(super) struct Pndm {
    alphas_cumprod: Vec<f32>,
    final_alpha: f64,
    timesteps: Timesteps,
    velocity: bool,
    skip: bool,
}

impl Pndm {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        let alphas_cumprod = alphas_cumprod_as_trained(settings, 0.0001, 0.02)?;
        let prediction = settings.prediction(&[Prediction::Epsilon, Prediction::Velocity])?;
        Ok(Self {
            final_alpha: final_alpha(settings, &alphas_cumprod, false)?,
            alphas_cumprod,
            timesteps: Timesteps::read(settings, "leading")?,
            velocity: prediction == Prediction::Velocity,
            skip: settings.flag("skip_prk_steps", false)?,
        })
    }

    /// Formula (9) of the paper, from one timestep to another.
    fn transfer(&self, from: f64, to: f64, latents: Slot, output: &Sum) -> Sum {
        let at = share(&self.alphas_cumprod, from, self.final_alpha);
        let next = share(&self.alphas_cumprod, to, self.final_alpha);
        let noise = match self.velocity {
            false => output.clone(),
            true => output.times(at.sqrt()).and(latents, (1.0 - at).sqrt()),
        };
        let divisor = at * (1.0 - next).sqrt() + (at * (1.0 - at) * next).sqrt();
        Sum::of(latents, (next / at).sqrt()).plus(-(next - at) / divisor, &noise)
    }

    /// The `count`th evaluation of the linear multistep method; `kept` outputs came before it.
    fn multistep(&self, count: usize, kept: usize, timestep: f64, ratio: f64) -> Step {
        if count == 1 {
            // The second evaluation goes over the first step again.
            let mean = Sum::of(Slot::Output, 0.5).and(Slot::Kept(0), 0.5);
            return Step::plain(timestep, self.transfer(timestep + ratio, timestep, START, &mean));
        }
        // Outputs from this one back: tensors 0 to 3 in turn.
        let ago = |back: usize| Slot::Kept((kept + OUTPUTS - back) % OUTPUTS);
        let factors: &[f64] = match kept {
            0 => &[1.0],
            1 => &[3.0 / 2.0, -1.0 / 2.0],
            2 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let mut updates = vec![Update::new(ago(0), Sum::of(Slot::Output, 1.0))];
        if count == 0 {
            updates.push(Update::new(START, Sum::of(Slot::Latents, 1.0)));
        }
        let output = factors.iter().enumerate().fold(Sum::default(), |sum, (back, &f)| sum.and(ago(back), f));
        updates.push(Update::new(
            Slot::Latents,
            self.transfer(timestep, timestep - ratio, Slot::Latents, &output),
        ));
        Step { timestep, input_scale: 1.0, updates }
    }

    /// The `count`th evaluation of the Runge-Kutta steps, whose four started at `from`.
    fn runge_kutta(&self, count: usize, from: f64, timestep: f64, half: f64) -> Step {
        let to = if count.is_multiple_of(2) { timestep - half } else { timestep };
        let output = Sum::of(Slot::Output, 1.0);
        let updates = match count % 4 {
            0 => vec![
                Update::new(Slot::Kept(count / 4), output.clone()),
                Update::new(START, Sum::of(Slot::Latents, 1.0)),
                Update::new(MEAN, output.times(1.0 / 6.0)),
                Update::new(Slot::Latents, self.transfer(from, to, START, &output)),
            ],
            3 => {
                let mean = Sum::of(MEAN, 1.0).plus(1.0 / 6.0, &output);
                vec![Update::new(Slot::Latents, self.transfer(from, to, START, &mean))]
            }
            _ => vec![
                Update::new(MEAN, Sum::of(MEAN, 1.0).plus(1.0 / 3.0, &output)),
                Update::new(Slot::Latents, self.transfer(from, to, START, &output)),
            ],
        };
        Step { timestep, input_scale: 1.0, updates }
    }

    fn ratio(&self, steps: usize) -> usize {
        self.timesteps.training / steps
    }
}

impl Method for Pndm {
    fn table(&self, steps: usize) -> Table {
        let whole = self.timesteps.whole(steps);
        let mut timesteps = Vec::new();
        if self.skip {
            for (i, &t) in whole.iter().enumerate() {
                timesteps.push(t);
                if i == 1 {
                    timesteps.push(t);
                }
            }
        } else {
            let half = (self.ratio(steps) / 2) as f64;
            for pair in whole.windows(2).take(3) {
                if let [from, to] = pair {
                    timesteps.extend([*from, to + half, to + half, *to]);
                }
            }
            timesteps.extend(whole.iter().skip(3));
        }
        Table { steps, ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let ratio = self.ratio(table.steps);
        let before = if self.skip { 0 } else { RUNGE_KUTTA };
        let timesteps = table.timesteps.iter().skip(options.first).enumerate();
        timesteps
            .map(|(count, &timestep)| match count.checked_sub(before) {
                None => {
                    let from = table.timesteps.get(count / 4 * 4).copied().unwrap_or(f64::NAN);
                    self.runge_kutta(count, from, timestep, (ratio / 2) as f64)
                }
                Some(0) if self.skip => self.multistep(0, 0, timestep, ratio as f64),
                Some(1) if self.skip => self.multistep(1, 1, timestep, ratio as f64),
                Some(number) => {
                    // The evaluation gone over again keeps no output, the Runge-Kutta steps keep three.
                    let kept = if self.skip { number - 1 } else { number + 3 };
                    self.multistep(count, kept, timestep, ratio as f64)
                }
            })
            .collect()
    }

    fn reach(&self) -> Option<usize> {
        Some(self.alphas_cumprod.len())
    }

    fn least_steps(&self) -> usize {
        if self.skip { 1 } else { 4 }
    }

    fn starts_at(&self, first: usize) -> bool {
        self.skip || first == 0
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        noised(&self.alphas_cumprod, table, index)
    }
}
