//! A schedule's steps as products of small matrices, so that one graph carries out all of them.

use crate::schedulers::{Schedule, Slot, Step};

/// Larger than any latent: no limit.
const FREE: f32 = 3.0e38;

/// Matrices over the tensors of a sampler, which are rows: the latents, the tensors that are kept, the model's output and,
/// where a step wants it, noise. In a step, one matrix after the other makes new rows of the rows.
#[derive(Clone, Debug)]
pub(super) struct Matrices {
    /// Rows that live on: the latents and what is kept.
    pub kept: usize,
    /// All rows.
    pub rows: usize,
    /// Matrices of a step.
    pub products: usize,
    /// Whether there is a row of noise.
    pub noise: bool,
    steps: Vec<Vec<Product>>,
}

/// New rows as sums of rows, and how far each may be from 0.
#[derive(Clone, Debug)]
struct Product {
    factors: Vec<Vec<f64>>,
    limits: Vec<Option<f64>>,
}

impl Matrices {
    pub fn of(schedule: &Schedule) -> Self {
        let noise = schedule.steps.iter().any(Step::needs_noise);
        let kept = 1 + schedule.kept;
        let rows = kept + 1 + usize::from(noise);
        let row = |slot: Slot| match slot {
            Slot::Latents => 0,
            Slot::Kept(number) => 1 + number,
            Slot::Output => kept,
            Slot::Noise => kept + 1,
        };
        let steps: Vec<_> = schedule.steps.iter().map(|step| products(step, rows, row)).collect();
        let products = steps.iter().map(Vec::len).max().unwrap_or(1);
        Self { kept, rows, products, noise, steps }
    }

    /// The matrices of a step, `[products, rows, rows]`, and the limits of their rows, `[products, rows, 1]`.
    pub fn step(&self, index: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut factors, mut limits) = (Vec::new(), Vec::new());
        let own = self.steps.get(index).map_or(&[][..], Vec::as_slice);
        let idle = Product::idle(self.rows);
        for product in own.iter().chain(std::iter::repeat(&idle)).take(self.products) {
            factors.extend(product.factors.iter().flatten().map(|&factor| factor as f32));
            limits.extend(product.limits.iter().map(|limit| limit.map_or(FREE, |limit| limit as f32)));
        }
        (factors, limits)
    }
}

impl Product {
    /// The rows as they are.
    fn idle(rows: usize) -> Self {
        let one = |i| (0..rows).map(|j| f64::from(u8::from(i == j))).collect();
        Self { factors: (0..rows).map(one).collect(), limits: vec![None; rows] }
    }
}

/// A step's updates, as few products as limits allow: sums of sums are sums.
fn products(step: &Step, rows: usize, row: impl Fn(Slot) -> usize) -> Vec<Product> {
    let mut list = vec![Product::idle(rows)];
    for update in &step.updates {
        let reads_limited = |product: &Product| {
            update
                .sum
                .terms()
                .iter()
                .any(|&(slot, _)| product.limits.get(row(slot)).is_some_and(Option::is_some))
        };
        if list.last().is_some_and(reads_limited) {
            list.push(Product::idle(rows));
        }
        let Some(product) = list.last_mut() else { continue };
        let mut sum = vec![0.0; rows];
        for &(slot, factor) in update.sum.terms() {
            for (total, value) in sum.iter_mut().zip(product.factors.get(row(slot)).into_iter().flatten()) {
                *total += factor * value;
            }
        }
        let into = row(update.into);
        if let (Some(factors), Some(limit)) = (product.factors.get_mut(into), product.limits.get_mut(into)) {
            *factors = sum;
            *limit = update.limit;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedulers::Scheduler;

    /// What the matrices make of a schedule's tensors is what its walk makes of them.
    fn agrees(config: serde_json::Value) {
        let schedule = Scheduler::from_json(&config).unwrap().set_timesteps(7).unwrap();
        let matrices = Matrices::of(&schedule);
        let mut walk = schedule.walk(2);
        let mut latents = [1.5_f32, -0.7];
        let mut tensors = vec![[0.0_f64; 2]; matrices.rows];
        tensors[0] = latents.map(f64::from);
        let mut index = 0;
        while walk.next().is_some() {
            let output = latents.map(|v| (2.3 * v).sin());
            let noise = latents.map(|v| (5.1 * v).cos());
            tensors[matrices.kept] = output.map(f64::from);
            if matrices.noise {
                tensors[matrices.kept + 1] = noise.map(f64::from);
            }
            let (factors, limits) = matrices.step(index);
            for p in 0..matrices.products {
                let old = tensors.clone();
                for (i, tensor) in tensors.iter_mut().enumerate() {
                    let at = p * matrices.rows + i;
                    let factors = &factors[at * matrices.rows..][..matrices.rows];
                    let limit = f64::from(limits[at]);
                    *tensor = [0, 1].map(|column| {
                        let terms = factors.iter().zip(&old).map(|(&f, row)| f64::from(f) * row[column]);
                        terms.sum::<f64>().clamp(-limit, limit)
                    });
                }
            }
            walk.step(&output, Some(&noise), &mut latents).unwrap();
            for (ours, theirs) in tensors[0].iter().zip(latents) {
                let theirs = f64::from(theirs);
                assert!((ours - theirs).abs() <= 1e-5 * theirs.abs().max(1.0), "step {index} of {config}");
            }
            tensors[0] = latents.map(f64::from);
            index += 1;
        }
        assert!(index >= 7);
    }

    #[test]
    fn every_scheduler_is_a_few_products() {
        for class in [
            "DDIMScheduler",
            "DDPMScheduler",
            "PNDMScheduler",
            "LMSDiscreteScheduler",
            "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
            "HeunDiscreteScheduler",
            "DPMSolverMultistepScheduler",
            "DPMSolverSDEScheduler",
            "UniPCMultistepScheduler",
            "LCMScheduler",
        ] {
            agrees(serde_json::json!({"_class_name": class, "beta_schedule": "scaled_linear"}));
        }
        agrees(
            serde_json::json!({"_class_name": "DDIMScheduler", "clip_sample": true, "clip_sample_range": 0.5}),
        );
    }
}
