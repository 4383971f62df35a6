//! Which timesteps of training a schedule visits (Lin et al. 2023, <https://arxiv.org/abs/2305.08891>, table 2), as numpy
//! computes them.

use super::SchedulerError;
use super::settings::Settings;

/// Where the timesteps of a schedule lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Evenly from the first to the last.
    Linspace,
    /// Multiples of a whole number, from the first on.
    Leading,
    /// Evenly back from the last.
    Trailing,
}

/// A spacing with the number that is added to `leading` timesteps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timesteps {
    pub spacing: Spacing,
    pub offset: usize,
    /// Timesteps of training.
    pub training: usize,
}

impl Timesteps {
    pub fn read(settings: Settings, default: &'static str) -> Result<Self, SchedulerError> {
        let spacing = match settings.str("timestep_spacing", default)? {
            "linspace" => Spacing::Linspace,
            "leading" => Spacing::Leading,
            "trailing" => Spacing::Trailing,
            other => return Err(settings.unsupported("timestep_spacing", other)),
        };
        Ok(Self { spacing, offset: settings.count("steps_offset", 0)?, training: settings.training()? })
    }

    /// Timesteps from the noisiest on, rounded to whole ones.
    pub fn whole(self, steps: usize) -> Vec<f64> {
        self.fractional(steps).into_iter().map(f64::round_ties_even).collect()
    }

    /// The same; those of `linspace` are fractions.
    pub fn fractional(self, steps: usize) -> Vec<f64> {
        match self.spacing {
            Spacing::Linspace => linspace(0.0, (self.training - 1) as f64, steps).into_iter().rev().collect(),
            Spacing::Leading => {
                let ratio = self.training / steps;
                (0..steps).rev().map(|i| (i * ratio + self.offset) as f64).collect()
            }
            Spacing::Trailing => trailing(self.training, self.training, steps),
        }
    }

    /// Whole timesteps of solvers that end at a step of their own: one more than asked for, less the last. `visible` of
    /// those of training count.
    pub fn without_last(self, steps: usize, visible: usize) -> Vec<f64> {
        match self.spacing {
            Spacing::Linspace => {
                let all = linspace(0.0, visible as f64 - 1.0, steps + 1);
                all.into_iter().skip(1).rev().map(f64::round_ties_even).collect()
            }
            Spacing::Leading => {
                let ratio = visible / (steps + 1);
                (1..=steps).rev().map(|i| (i * ratio + self.offset) as f64).collect()
            }
            Spacing::Trailing => trailing(self.training, visible, steps),
        }
    }
}

/// Steps of `training / steps` back from `visible`. Where the quotient is rounded down, numpy goes on to timestep -1
/// after the last of them, which is no timestep and is left out here.
fn trailing(training: usize, visible: usize, steps: usize) -> Vec<f64> {
    let (from, ratio) = (visible as f64, training as f64 / steps as f64);
    // numpy takes the difference of the first two as the step.
    let step = (from - ratio) - from;
    let count = (from / ratio).ceil() as usize;
    (0..count).map(|i| (from + i as f64 * step).round_ties_even() - 1.0).filter(|&t| t >= 0.0).collect()
}

/// `numpy.linspace`.
pub(super) fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    let step = (end - start) / (count.max(2) - 1) as f64;
    (0..count).map(|i| if i > 0 && i + 1 == count { end } else { i as f64 * step + start }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timesteps(spacing: Spacing) -> Timesteps {
        Timesteps { spacing, offset: 1, training: 1000 }
    }

    #[test]
    fn spacings() {
        assert_eq!(timesteps(Spacing::Leading).whole(4), [751.0, 501.0, 251.0, 1.0]);
        assert_eq!(timesteps(Spacing::Trailing).whole(3), [999.0, 666.0, 332.0]);
        assert_eq!(timesteps(Spacing::Linspace).whole(3), [999.0, 500.0, 0.0]);
        assert_eq!(timesteps(Spacing::Linspace).whole(1), [0.0]);
        assert_eq!(timesteps(Spacing::Linspace).without_last(2, 1000), [999.0, 500.0]);
        assert_eq!(timesteps(Spacing::Leading).without_last(3, 1000), [751.0, 501.0, 251.0]);
    }

    #[test]
    fn trailing_timesteps_are_never_below_zero() {
        for steps in 1..=1000 {
            assert_eq!(timesteps(Spacing::Trailing).whole(steps).len(), steps, "{steps} steps");
        }
    }
}
