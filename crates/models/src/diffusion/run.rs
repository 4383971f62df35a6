//! A schedule carried out on a device.

use kiln_engine::Fence;
use kiln_graph::Tensor;

use super::matrices::Matrices;
use super::step::Shape;
use super::{Progress, Sampling, Watch, tensor};
use crate::schedulers::{Slot, Sum};
use crate::{Error, Runner};

/// How often it begins again because a tensor left f16's range on the way.
const MAX_ROUNDS: usize = 8;

/// A schedule with all that its steps upload.
pub(super) struct Run<'a> {
    pub runner: &'a mut Runner,
    pub sampling: &'a Sampling<'a>,
    pub shape: Shape,
    pub matrices: Matrices,
    /// A row for each step.
    pub time: Vec<Tensor>,
    /// Fresh noise for each step, where there is any.
    pub noises: Vec<Tensor>,
}

impl Run<'_> {
    /// All steps; the latents at their end.
    pub async fn all(&mut self, watch: &mut dyn Watch) -> Result<Tensor, Error> {
        self.begin().await?;
        let mut rounds = 0;
        loop {
            // What leaves the range of f16 is looked for in the first step, and in all of them where that was not enough.
            match self.steps(rounds > 0, watch).await {
                Ok(latents) if rounds == 0 && !latents.to_f32().iter().all(|v| v.is_finite()) => {}
                Err(Error::StatesLost) if rounds < MAX_ROUNDS => {}
                result => return result,
            }
            rounds += 1;
            self.runner.restore_states().await?;
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let (sampling, length) = (self.sampling, self.shape.length());
        let mut rows = sampling.latents.to_f32().into_owned();
        rows.resize(self.shape.kept * length, 0.0);
        self.runner.set_state("rows", &tensor([self.shape.kept, length], rows)?).await?;
        if let Some(condition) = &sampling.condition {
            self.runner.set_state("condition", condition).await?;
        }
        if let Some(mask) = &sampling.mask {
            for (name, image) in [("mask", &mask.mask), ("clean", &mask.clean), ("first_noise", &mask.noise)]
            {
                self.runner.set_state(name, &tensor([1, length], image.to_f32().into_owned())?).await?;
            }
        }
        Ok(())
    }

    async fn steps(&mut self, look: bool, watch: &mut dyn Watch) -> Result<Tensor, Error> {
        let steps = self.sampling.schedule.steps.len();
        let mut before: Option<Fence> = None;
        for step in 0..steps {
            let inputs = self.inputs(step)?;
            let inputs: Vec<(&str, Tensor)> = inputs.into_iter().collect();
            if look || step == 0 {
                self.runner.run(&inputs).await?;
            } else {
                self.runner.run_unchecked(&inputs).await?;
            }
            // Two steps are under way, never more: one that runs and one that waits.
            let fence = self.runner.fence().await?;
            if let Some(before) = std::mem::replace(&mut before, fence) {
                before.wait().await?;
            }
            let latents = if watch.wants(step) { Some(self.latents().await?) } else { None };
            if watch.see(Progress { step, steps, latents }).is_break() {
                return Err(kiln_engine::Error::Cancelled.into());
            }
        }
        self.latents().await
    }

    /// What a step uploads.
    fn inputs(&self, step: usize) -> Result<Vec<(&'static str, Tensor)>, Error> {
        let (shape, schedule) = (&self.shape, self.sampling.schedule);
        let ended = || Error::Input("the schedule has ended".into());
        let plan = schedule.steps.get(step).ok_or_else(ended)?;
        let (factors, limits) = self.matrices.step(step);
        let scalar = |value: f64| Tensor::scalar(value as f32);
        let mut inputs = vec![
            ("time", self.time.get(step).cloned().ok_or_else(ended)?),
            ("input_scale", scalar(plan.input_scale)),
            ("factors", tensor([shape.products, shape.rows, shape.rows], factors)?),
            ("limits", tensor([shape.products, shape.rows, 1], limits)?),
        ];
        if let Some(guidance) = &self.sampling.guidance {
            inputs.push(("guidance_scale", Tensor::scalar(guidance.scale)));
            if shape.rescaled {
                inputs.push(("guidance_rescale", Tensor::scalar(guidance.rescale)));
            }
        }
        if let Some(noise) = self.noises.get(step) {
            inputs.push(("noise", noise.clone()));
        }
        if shape.masked {
            // As noisy as the next step wants it, and clean behind the last.
            let first = schedule.timesteps.len() - schedule.steps.len();
            let clean = Sum::of(Slot::Latents, 1.0);
            let noised = schedule.noised.get(first + step + 1).unwrap_or(&clean);
            let factor = |slot| noised.terms().iter().filter(|term| term.0 == slot).map(|term| term.1).sum();
            inputs.push(("signal", scalar(factor(Slot::Latents))));
            inputs.push(("spread", scalar(factor(Slot::Noise))));
        }
        Ok(inputs)
    }

    async fn latents(&mut self) -> Result<Tensor, Error> {
        let Shape { batch, size: [height, width], channels, .. } = self.shape;
        let mut rows = self.runner.state("rows").await?.to_f32().into_owned();
        rows.truncate(self.shape.length());
        tensor([batch, height, width, channels], rows)
    }
}
