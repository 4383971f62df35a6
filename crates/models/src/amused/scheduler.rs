//! diffusers' `AmusedScheduler`: how many codes are masked behind each step, and which.

use std::f32::consts::PI;

use serde_json::Value as Json;

use crate::Error;
use crate::config::Config as Reader;
use crate::random::Generator;

/// Least probability, and least distance from it, of which a logarithm is taken.
const LEAST: f32 = 1e-20;

/// How the share of masked codes falls from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskingSchedule {
    /// As a cosine from its top: slowly at first.
    Cosine,
    /// By the same number each step.
    Linear,
}

/// A scheduler's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmusedScheduler {
    /// The id that stands for a code that is yet to come.
    pub mask_token_id: i32,
    /// How the share of masked codes falls.
    pub masking_schedule: MaskingSchedule,
}

/// The steps of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    /// The share of codes that are masked behind each step but the last.
    mask_ratios: Vec<f32>,
    /// How much chance has to say at each step.
    temperatures: Vec<f32>,
}

/// What a model draws for each place: a code, and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// The codes.
    pub codes: Vec<i32>,
    /// Their probabilities.
    pub probabilities: Vec<f32>,
}

impl AmusedScheduler {
    /// Reads a `scheduler_config.json`.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Input(format!("scheduler_config.json: {reason}"));
        let reader = Reader(json);
        match reader.str("_class_name")? {
            None | Some("AmusedScheduler") => {}
            Some(other) => return Err(wrong(format!("{other} is no AmusedScheduler"))),
        }
        let mask = reader.size("mask_token_id")?.ok_or_else(|| wrong("it has no mask_token_id".into()))?;
        let masking_schedule = match reader.str("masking_schedule")? {
            None | Some("cosine") => MaskingSchedule::Cosine,
            Some("linear") => MaskingSchedule::Linear,
            Some(other) => return Err(wrong(format!("masking_schedule {other:?} is none that Kiln knows"))),
        };
        Ok(Self { mask_token_id: mask as i32, masking_schedule })
    }

    /// So many steps, for pictures of whose codes `masked` are masked at first, as a share of all. Temperatures go evenly
    /// from the first to the last.
    pub fn timetable(&self, steps: usize, temperature: [f32; 2], masked: f32) -> Timetable {
        let share = |step: usize| {
            let ratio = (step + 1) as f32 / steps as f32;
            let left = match self.masking_schedule {
                // Rounded to f32 where PyTorch rounds: whole numbers of codes hang on the last bit.
                MaskingSchedule::Cosine => f64::from(ratio * PI / 2.0).cos() as f32,
                MaskingSchedule::Linear => 1.0 - ratio,
            };
            masked * left
        };
        let [first, last] = temperature;
        let between = steps.saturating_sub(1).max(1) as f32;
        let stride = (last - first) / between;
        // Counted from the nearer end, as torch.linspace counts.
        let temperature = |step: usize| {
            let behind = steps - 1 - step;
            if step < steps / 2 || steps == 1 {
                first + stride * step as f32
            } else {
                last - stride * behind as f32
            }
        };
        Timetable {
            mask_ratios: (0..steps).map(share).collect(),
            temperatures: (0..steps).map(temperature).collect(),
        }
    }
}

impl Timetable {
    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.mask_ratios.len()
    }

    /// How many of `codes` codes, of which `masked` are masked, are masked behind a step: fewer than before, but one at
    /// least, until the last step leaves none.
    pub fn masked_after(&self, step: usize, codes: usize, masked: usize) -> usize {
        if step + 1 >= self.steps() {
            return 0;
        }
        let ratio = self.mask_ratios.get(step).copied().unwrap_or(0.0);
        let wanted = (codes as f32 * ratio).floor() as usize;
        wanted.min(masked.saturating_sub(1)).max(1).min(codes.saturating_sub(1))
    }

    /// A picture's codes as they are before a step that is not the first: each of them is masked with the probability that is
    /// the share of those masked behind the step before. Before the first all are masked, where diffusers masks none.
    pub fn add_noise(&self, step: usize, codes: &[i32], mask: i32, generator: &mut Generator) -> Vec<i32> {
        let before = step.checked_sub(1).and_then(|before| self.mask_ratios.get(before));
        let Some(&ratio) = before else { return vec![mask; codes.len()] };
        let noise = generator.uniforms(codes.len());
        codes.iter().zip(noise).map(|(&code, noise)| if noise < ratio { mask } else { code }).collect()
    }

    /// A step of one picture: its codes behind it, with `mask` for those that are yet to come, and what was drawn for all
    /// of them. A code that was not masked stays. The order of the numbers drawn is that of diffusers.
    pub fn step(
        &self,
        step: usize,
        codes: &[i32],
        drawn: &Draw,
        mask: i32,
        generator: &mut Generator,
    ) -> (Vec<i32>, Vec<i32>) {
        let drawings = codes.iter().zip(&drawn.codes);
        let predicted: Vec<i32> =
            drawings.map(|(&code, &drawn)| if code == mask { drawn } else { code }).collect();
        let masked = codes.iter().filter(|&&code| code == mask).count();
        let wanted = self.masked_after(step, codes.len(), masked);
        if wanted == 0 {
            return (predicted.clone(), predicted);
        }
        let temperature = self.temperatures.get(step).copied().unwrap_or(0.0);
        let noise = generator.uniforms(codes.len());
        let confidences = codes.iter().zip(&drawn.probabilities).zip(noise).map(|((&code, &p), noise)| {
            let probability = if code == mask { p } else { f32::MAX };
            log(probability) + temperature * -log(-log(noise))
        });
        let confidences: Vec<f32> = confidences.collect();
        let mut sorted = confidences.clone();
        sorted.sort_by(f32::total_cmp);
        let limit = sorted.get(wanted).copied().unwrap_or(f32::INFINITY);
        let next = predicted.iter().zip(&confidences);
        let next = next.map(|(&code, &confidence)| if confidence < limit { mask } else { code });
        (next.collect(), predicted)
    }
}

/// A natural logarithm, of no less than the least number.
fn log(value: f32) -> f32 {
    f64::from(value.max(LEAST)).ln() as f32
}
