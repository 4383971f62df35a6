//! A schedule as plain data: what each step computes, for a CPU or a GPU to carry out.

/// A tensor that a step reads or writes. All have the latents' shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The latents.
    Latents,
    /// What the model made of the scaled latents.
    Output,
    /// Fresh noise of the standard normal distribution.
    Noise,
    /// A tensor kept from one step to the next, by its number. Written before it is read.
    Kept(usize),
}

/// A sum of tensors, each times a number; the empty sum is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum(Vec<(Slot, f64)>);

impl Sum {
    /// One tensor times a number.
    pub fn of(slot: Slot, factor: f64) -> Self {
        Self(vec![(slot, factor)])
    }

    /// The tensors, each once, with their factors.
    pub fn terms(&self) -> &[(Slot, f64)] {
        &self.0
    }

    /// This sum and `factor` times another.
    pub(super) fn plus(mut self, factor: f64, other: &Sum) -> Self {
        for &(slot, coefficient) in &other.0 {
            match self.0.iter_mut().find(|(known, _)| *known == slot) {
                Some((_, sum)) => *sum += factor * coefficient,
                None => self.0.push((slot, factor * coefficient)),
            }
        }
        self.0.retain(|&(_, coefficient)| coefficient != 0.0);
        self
    }

    /// This sum and `factor` times a tensor.
    pub(super) fn and(self, slot: Slot, factor: f64) -> Self {
        self.plus(factor, &Sum::of(slot, 1.0))
    }

    /// This sum times a number.
    pub(super) fn times(&self, factor: f64) -> Self {
        Sum::default().plus(factor, self)
    }
}

/// One tensor becomes a sum of tensors as they were before; elementwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The tensor that is written.
    pub into: Slot,
    /// What it becomes.
    pub sum: Sum,
    /// Clip the result to minus this and this.
    pub limit: Option<f64>,
}

impl Update {
    pub(super) fn new(into: Slot, sum: Sum) -> Self {
        Self { into, sum, limit: None }
    }
}

/// One evaluation of the model and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What the model is told, in timesteps of training.
    pub timestep: f64,
    /// The model is given the latents times this.
    pub input_scale: f64,
    /// Carried out one after another; the latents are then those of the next step.
    pub updates: Vec<Update>,
}

impl Step {
    /// A step that changes the latents alone, of a model that takes them as they are.
    pub(super) fn plain(timestep: f64, latents: Sum) -> Self {
        Self { timestep, input_scale: 1.0, updates: vec![Update::new(Slot::Latents, latents)] }
    }

    /// Whether it reads [`Slot::Noise`].
    pub fn needs_noise(&self) -> bool {
        self.updates.iter().any(|update| update.sum.terms().iter().any(|&(slot, _)| slot == Slot::Noise))
    }

    pub(super) fn is_finite(&self) -> bool {
        let finite = |update: &Update| update.sum.terms().iter().all(|(_, factor)| factor.is_finite());
        self.timestep.is_finite() && self.input_scale.is_finite() && self.updates.iter().all(finite)
    }

    /// Kept tensors that it needs: the highest number and one.
    pub(super) fn kept(&self) -> usize {
        let number = |slot: Slot| if let Slot::Kept(number) = slot { number + 1 } else { 0 };
        let read = self.updates.iter().flat_map(|update| update.sum.terms()).map(|&(slot, _)| slot);
        let written = self.updates.iter().map(|update| update.into);
        read.chain(written).map(number).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_hold_each_tensor_once_and_no_zeros() {
        let sum = Sum::of(Slot::Latents, 2.0).and(Slot::Noise, 1.0).and(Slot::Latents, 1.0);
        assert_eq!(sum.terms(), [(Slot::Latents, 3.0), (Slot::Noise, 1.0)]);
        assert_eq!(sum.clone().plus(-1.0, &Sum::of(Slot::Latents, 3.0)), Sum::of(Slot::Noise, 1.0));
        assert_eq!(sum.times(0.0), Sum::default());
        let step = Step::plain(1.0, sum.and(Slot::Kept(4), 1.0));
        assert!(step.needs_noise() && step.kept() == 5 && step.is_finite());
        assert!(!Step::plain(1.0, Sum::of(Slot::Kept(0), f64::NAN)).is_finite());
    }
}
