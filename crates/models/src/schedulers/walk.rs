//! A schedule carried out on slices.

use super::plan::{Slot, Step, Update};
use super::{Schedule, SchedulerError};

/// Where a schedule has got to, with the tensors it keeps. Sums are added up in f64 and stored in f32.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    steps: std::slice::Iter<'a, Step>,
    kept: Vec<Vec<f32>>,
    length: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(schedule: &'a Schedule, length: usize) -> Self {
        Self { steps: schedule.steps.iter(), kept: vec![vec![0.0; length]; schedule.kept], length }
    }

    /// The evaluation of the model that comes next, none at the end.
    pub fn next(&self) -> Option<&'a Step> {
        self.steps.as_slice().first()
    }

    /// Takes the model's output, and noise where [`Step::needs_noise`], and moves the latents on. All have the length
    /// that was given; [`SchedulerError`] where they do not, and after the last step.
    pub fn step(
        &mut self,
        output: &[f32],
        noise: Option<&[f32]>,
        latents: &mut [f32],
    ) -> Result<(), SchedulerError> {
        let step = self.next().ok_or(SchedulerError::Ended)?;
        if noise.is_none() && step.needs_noise() {
            return Err(SchedulerError::Noise(step.timestep));
        }
        let lengths = [
            ("the output", Some(output.len())),
            ("the noise", noise.map(<[f32]>::len)),
            ("the latents", Some(latents.len())),
        ];
        for (what, found) in lengths {
            if let Some(found) = found.filter(|&found| found != self.length) {
                return Err(SchedulerError::Length { what, found, wanted: self.length });
            }
        }
        for update in &step.updates {
            let values = self.evaluate(update, output, noise.unwrap_or_default(), latents);
            match update.into {
                Slot::Kept(number) => {
                    if let Some(kept) = self.kept.get_mut(number) {
                        *kept = values;
                    }
                }
                _ => latents.copy_from_slice(&values),
            }
        }
        self.steps.next();
        Ok(())
    }

    fn evaluate(&self, update: &Update, output: &[f32], noise: &[f32], latents: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.length];
        for &(slot, factor) in update.sum.terms() {
            let values = match slot {
                Slot::Latents => latents,
                Slot::Output => output,
                Slot::Noise => noise,
                Slot::Kept(number) => self.kept.get(number).map_or(&[][..], Vec::as_slice),
            };
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += factor * f64::from(value);
            }
        }
        let limit = update.limit.unwrap_or(f64::INFINITY);
        sums.into_iter().map(|sum: f64| sum.clamp(-limit, limit) as f32).collect()
    }
}
