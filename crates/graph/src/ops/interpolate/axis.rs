//! Which input positions an output position of one axis reads, and with which weights.

use super::InterpolateMode;
use crate::ops::resample::{Taps, cubic};

/// One axis of a resize.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Input extent, not 0.
    pub input: usize,
    /// Output extent.
    pub output: usize,
    /// The factor that was asked for, where it decides coordinates instead of the extents.
    pub factor: Option<f64>,
}

impl Axis {
    /// The input position of every output position, in f32 as PyTorch has it: which of two neighbours is nearest
    /// can hang on its rounding, and `floor` takes shortcuts where extents are equal or doubled, whatever factor was
    /// asked for.
    pub fn nearest(&self, exact: bool) -> Vec<usize> {
        if !exact && self.output == self.input {
            return (0..self.output).collect();
        }
        if !exact && self.output == 2 * self.input {
            return (0..self.output).map(|i| i / 2).collect();
        }
        let scale = match self.factor {
            Some(factor) if factor > 0.0 => (1.0 / factor) as f32,
            _ => self.input as f32 / self.output as f32,
        };
        let position = |i: usize| {
            // PyTorch's builds fuse this multiplication and subtraction.
            let exact_position = || scale.mul_add(i as f32 + 0.5, -0.5).max(0.0) + 0.5;
            let position = if exact { exact_position() } else { scale * i as f32 };
            (position.floor() as usize).min(self.input - 1)
        };
        (0..self.output).map(position).collect()
    }

    /// Input positions per output position.
    fn scale(&self, align_corners: bool) -> f64 {
        if align_corners {
            return if self.output > 1 { (self.input - 1) as f64 / (self.output - 1) as f64 } else { 0.0 };
        }
        match self.factor {
            Some(factor) if factor > 0.0 => 1.0 / factor,
            _ => self.input as f64 / self.output as f64,
        }
    }

    /// The taps of every output position.
    pub fn taps(&self, mode: InterpolateMode, align_corners: bool, antialias: bool) -> Vec<Taps> {
        let scale = self.scale(align_corners);
        let outputs = 0..self.output;
        let position = |i: usize| {
            if align_corners { scale * i as f64 } else { scale * (i as f64 + 0.5) - 0.5 }
        };
        match mode {
            InterpolateMode::Nearest | InterpolateMode::NearestExact => {
                let exact = mode == InterpolateMode::NearestExact;
                self.nearest(exact).into_iter().map(Taps::one).collect()
            }
            // Equal extents copy, whatever factor was asked for; bicubic without antialiasing alone does not.
            InterpolateMode::Bilinear if self.input == self.output => outputs.map(Taps::one).collect(),
            InterpolateMode::Bicubic if antialias && self.input == self.output => {
                outputs.map(Taps::one).collect()
            }
            InterpolateMode::Area => outputs.map(|i| self.area(i)).collect(),
            InterpolateMode::Bilinear if antialias => {
                outputs.map(|i| self.filtered(i, scale, 1.0, triangle)).collect()
            }
            InterpolateMode::Bicubic if antialias => {
                outputs.map(|i| self.filtered(i, scale, 2.0, |x| cubic(x, -0.5))).collect()
            }
            InterpolateMode::Bilinear => {
                let tap = |i| {
                    let at = position(i).max(0.0);
                    let low = at.floor().min((self.input - 1) as f64);
                    let high = (at - low).clamp(0.0, 1.0);
                    Taps::clamped(self.input, low as i64, &[1.0 - high, high])
                };
                outputs.map(tap).collect()
            }
            InterpolateMode::Bicubic => {
                let tap = |i| {
                    let at = position(i);
                    let low = at.floor().min((self.input - 1) as f64);
                    let t = (at - low).clamp(0.0, 1.0);
                    let weights = [1.0 + t, t, 1.0 - t, 2.0 - t].map(|x| cubic(x, -0.75));
                    Taps::clamped(self.input, low as i64 - 1, &weights)
                };
                outputs.map(tap).collect()
            }
        }
    }

    /// The mean of the input positions that an output position covers, partly covered ones included.
    fn area(&self, i: usize) -> Taps {
        let first = i * self.input / self.output;
        let end = ((i + 1) * self.input).div_ceil(self.output);
        Taps { first, weights: vec![1.0 / (end - first) as f64; end - first] }
    }

    /// A filter of this radius, stretched by the scale where the output is the smaller one, and normalised over the
    /// positions inside of the input; as Pillow resizes.
    fn filtered(&self, i: usize, scale: f64, radius: f64, filter: impl Fn(f64) -> f64) -> Taps {
        let stretch = scale.max(1.0);
        let support = radius * stretch;
        let center = scale * (i as f64 + 0.5);
        // Truncated towards zero, then kept inside.
        let end = ((center + support + 0.5) as usize).min(self.input);
        let first = ((center - support + 0.5).max(0.0) as usize).min(end.saturating_sub(1));
        let mut weights: Vec<f64> =
            (first..end).map(|k| filter((k as f64 - center + 0.5) / stretch)).collect();
        let total: f64 = weights.iter().sum();
        if weights.is_empty() {
            weights.push(0.0);
        } else if total != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        Taps { first, weights }.trimmed()
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize) -> Axis {
        Axis { input, output, factor: None }
    }

    #[test]
    fn nearest_picks_what_pytorch_picks() {
        assert_eq!(axis(5, 8).nearest(false), [0, 0, 1, 1, 2, 3, 3, 4]);
        assert_eq!(axis(5, 8).nearest(true), [0, 0, 1, 2, 2, 3, 4, 4]);
        assert_eq!(axis(3, 6).nearest(false), [0, 0, 1, 1, 2, 2]);
        let asked = Axis { input: 6, output: 4, factor: Some(0.7) };
        assert_eq!(asked.nearest(false), [0, 1, 2, 4]);
    }

    #[test]
    fn weights_sum_to_one() {
        for mode in [InterpolateMode::Bilinear, InterpolateMode::Bicubic, InterpolateMode::Area] {
            for (align_corners, antialias) in [(false, false), (true, false), (false, true), (true, true)] {
                for (input, output) in [(1, 1), (1, 7), (7, 1), (7, 7), (5, 13), (64, 9)] {
                    for taps in axis(input, output).taps(mode, align_corners, antialias) {
                        assert!((taps.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                        assert!(taps.first + taps.weights.len() <= input);
                    }
                }
            }
        }
    }

    #[test]
    fn corners_align() {
        let taps = axis(5, 9).taps(InterpolateMode::Bilinear, true, false);
        assert_eq!(taps[0], Taps::one(0));
        assert_eq!(taps[1], Taps { first: 0, weights: vec![0.5, 0.5] });
        assert_eq!(taps[8], Taps::one(4));
    }

    #[test]
    fn equal_extents_copy_even_with_a_factor() {
        let asked = Axis { input: 6, output: 6, factor: Some(1.1) };
        let copies: Vec<Taps> = (0..6).map(Taps::one).collect();
        assert_eq!(asked.taps(InterpolateMode::Bilinear, false, false), copies);
        assert_eq!(asked.taps(InterpolateMode::Bicubic, false, true), copies);
        assert_ne!(asked.taps(InterpolateMode::Bicubic, false, false), copies);
        assert_eq!(asked.nearest(false), [0, 1, 2, 3, 4, 5]);
        let doubled = Axis { input: 2, output: 4, factor: Some(2.3) };
        assert_eq!(doubled.nearest(false), [0, 0, 1, 1]);
    }
}
