//! From what a model predicts to the clean sample or to the noise.

use super::plan::{Slot, Sum, Update};
use super::settings::Prediction;

/// The clean sample, where latents are `alpha` times it and `sigma` times noise.
pub(super) fn clean(prediction: Prediction, alpha: f64, sigma: f64) -> Sum {
    match prediction {
        Prediction::Epsilon => Sum::of(Slot::Latents, 1.0 / alpha).and(Slot::Output, -sigma / alpha),
        Prediction::Velocity => Sum::of(Slot::Latents, alpha).and(Slot::Output, -sigma),
        Prediction::Sample => Sum::of(Slot::Output, 1.0),
    }
}

/// The noise, likewise.
pub(super) fn noise(prediction: Prediction, alpha: f64, sigma: f64) -> Sum {
    match prediction {
        Prediction::Epsilon => Sum::of(Slot::Output, 1.0),
        Prediction::Velocity => Sum::of(Slot::Output, alpha).and(Slot::Latents, sigma),
        Prediction::Sample => Sum::of(Slot::Latents, 1.0 / sigma).and(Slot::Output, -alpha / sigma),
    }
}

/// The clean sample, where latents are it and `sigma` times noise.
pub(super) fn clean_at(prediction: Prediction, sigma: f64) -> Sum {
    match prediction {
        Prediction::Epsilon => Sum::of(Slot::Latents, 1.0).and(Slot::Output, -sigma),
        Prediction::Velocity => {
            let alpha = super::sigmas::input_scale(sigma);
            Sum::of(Slot::Latents, alpha * alpha).and(Slot::Output, -sigma * alpha)
        }
        Prediction::Sample => Sum::of(Slot::Output, 1.0),
    }
}

/// The direction of the latents over sigma, from the clean sample.
pub(super) fn derivative(clean: &Sum, sigma: f64) -> Sum {
    Sum::of(Slot::Latents, 1.0).plus(-1.0, clean).times(1.0 / sigma)
}

/// A clean sample that is clipped where there is a limit: it is then a tensor of its own.
pub(super) fn clipped(clean: Sum, limit: Option<f64>, into: Slot) -> (Vec<Update>, Sum) {
    match limit {
        None => (Vec::new(), clean),
        Some(_) => (vec![Update { into, sum: clean, limit }], Sum::of(into, 1.0)),
    }
}
