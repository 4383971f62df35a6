//! A schedule carried out on a device.

use kiln_graph::Tensor;

use super::matrices::Matrices;
use super::step::Shape;
use super::{Checkpoint, Progress, Sampling, Watch, tensor};
use crate::schedulers::{Slot, Sum};
use crate::{Error, Runner, Snapshot};

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
    /// What the last finished step left; the first step to carry out is the one behind it.
    pub checkpoint: &'a mut Option<Checkpoint>,
}

impl Run<'_> {
    /// All steps; the latents at their end.
    pub async fn all(&mut self, watch: &mut dyn Watch) -> Result<Tensor, Error> {
        self.begin().await?;
        let begun = self.checkpoint.clone();
        let mut rounds = 0;
        loop {
            // What leaves the range of f16 is looked for in the first step, and in all of them where that was not enough.
            match self.steps(rounds > 0, watch).await {
                Ok(latents) if rounds == 0 && !latents.to_f32().iter().all(|v| v.is_finite()) => {}
                Err(Error::StatesLost) if rounds < MAX_ROUNDS => {}
                result => return result,
            }
            rounds += 1;
            self.checkpoint.clone_from(&begun);
            self.runner.restore_states().await?;
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let (sampling, length) = (self.sampling, self.shape.length());
        let rows = match &self.checkpoint {
            Some(checkpoint) => checkpoint.rows.clone(),
            None => {
                let mut rows = sampling.latents.to_f32().into_owned();
                rows.resize(self.shape.kept * length, 0.0);
                tensor([self.shape.kept, length], rows)?
            }
        };
        self.runner.set_state("rows", &rows).await?;
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
        let first = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.steps);
        let mut before: Option<Snapshot> = None;
        for step in first..steps {
            let inputs = self.inputs(step)?;
            let inputs: Vec<(&str, Tensor)> = inputs.into_iter().collect();
            if look || step == first {
                self.runner.run(&inputs).await?;
            } else {
                self.runner.run_unchecked(&inputs).await?;
            }
            let snapshot = self.runner.snapshot("rows").await?;
            // Two steps are under way, never more: one that runs and one that waits.
            if let Some(before) = before.take() {
                self.finished(step, before).await?;
            }
            let latents = if watch.wants(step) {
                self.finished(step + 1, snapshot).await?;
                Some(self.latents()?)
            } else {
                before = Some(snapshot);
                None
            };
            if watch.see(Progress { step, steps, latents }).is_break() {
                return Err(kiln_engine::Error::Cancelled.into());
            }
        }
        if let Some(before) = before {
            self.finished(steps, before).await?;
        }
        self.latents()
    }

    /// Waits until so many steps are done, and keeps what they left.
    async fn finished(&mut self, steps: usize, left: Snapshot) -> Result<(), Error> {
        *self.checkpoint = Some(Checkpoint { steps, rows: left.read().await? });
        Ok(())
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

    /// The latents that the last finished step left.
    fn latents(&self) -> Result<Tensor, Error> {
        match self.checkpoint.as_ref() {
            Some(checkpoint) => self.shape.latents(&checkpoint.rows),
            None => Ok(self.sampling.latents.clone()),
        }
    }
}
