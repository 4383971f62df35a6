//! Schedules in noise levels: sigma is the noise's standard deviation over the sample's share.

use super::SchedulerError;
use super::settings::Settings;
use super::spacing::{Spacing, Timesteps, linspace};

/// How the noise levels between the first and the last are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    /// Those of the timesteps.
    Training,
    /// Evenly in the seventh root ("Elucidating the Design Space of Diffusion-Based Generative Models", Karras et al.
    /// 2022, <https://arxiv.org/abs/2206.00364>, equation 5).
    Karras,
    /// Evenly in the logarithm.
    Exponential,
}

/// The noise level after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// None.
    Zero,
    /// The least of training.
    Least,
}

impl Curve {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        settings.refuse(&["use_beta_sigmas"])?;
        match (settings.flag("use_karras_sigmas", false)?, settings.flag("use_exponential_sigmas", false)?) {
            (true, true) => Err(settings.unsupported("use_exponential_sigmas", "with use_karras_sigmas")),
            (true, false) => Ok(Self::Karras),
            (false, true) => Ok(Self::Exponential),
            (false, false) => Ok(Self::Training),
        }
    }

    /// `steps` noise levels from `from` down to `to`, for a curve that does not follow the timesteps.
    pub fn between(self, from: f64, to: f64, steps: usize) -> Vec<f64> {
        const RHO: f64 = 7.0;
        match self {
            Self::Karras => {
                let (top, bottom) = (from.powf(1.0 / RHO), to.powf(1.0 / RHO));
                let along = linspace(0.0, 1.0, steps).into_iter();
                along.map(|ramp| (top + ramp * (bottom - top)).powf(RHO)).collect()
            }
            Self::Training | Self::Exponential => {
                linspace(from.ln(), to.ln(), steps).into_iter().map(f64::exp).collect()
            }
        }
    }
}

impl Last {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        match settings.str("final_sigmas_type", "zero")? {
            "zero" => Ok(Self::Zero),
            "sigma_min" => Ok(Self::Least),
            other => Err(settings.unsupported("final_sigmas_type", other)),
        }
    }
}

/// The noise levels of training, in f32 as PyTorch has them.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    sigmas: Vec<f32>,
    logs: Vec<f32>,
}

impl Levels {
    /// From the products of `1 - beta`.
    pub fn new(alphas_cumprod: &[f32]) -> Self {
        let sigmas: Vec<f32> = alphas_cumprod.iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect();
        let logs = sigmas.iter().map(|&sigma| f64::from(sigma).ln() as f32).collect();
        Self { sigmas, logs }
    }

    pub fn least(&self) -> f64 {
        self.sigmas.first().copied().unwrap_or(0.0).into()
    }

    pub fn most(&self) -> f64 {
        self.sigmas.last().copied().unwrap_or(0.0).into()
    }

    /// The noise level at a timestep, on a line between those beside it.
    pub fn at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let low = (timestep.max(0.0) as usize).min(last);
        let value = |i: usize| f64::from(self.sigmas.get(i.min(last)).copied().unwrap_or(f32::NAN));
        let slope = value(low + 1) - value(low);
        slope * (timestep.clamp(0.0, last as f64) - low as f64) + value(low)
    }

    /// The timestep of a noise level, on a line between the logarithms of those beside it.
    pub fn timestep(&self, sigma: f64) -> f64 {
        let log = sigma.max(1e-10).ln();
        let below = self.logs.partition_point(|&level| f64::from(level) <= log);
        let low = below.saturating_sub(1).min(self.logs.len().saturating_sub(2));
        let (Some(&from), Some(&to)) = (self.logs.get(low), self.logs.get(low + 1)) else { return 0.0 };
        let share = (f64::from(from) - log) / f64::from(from - to);
        share.clamp(0.0, 1.0) + low as f64
    }
}

impl Levels {
    /// Timesteps and their noise levels for solvers that tell the model whole timesteps: those given or, for a curve
    /// over all of training, those of its levels, rounded or cut off.
    pub fn curved(
        &self,
        curve: Curve,
        timesteps: Vec<f64>,
        steps: usize,
        round: bool,
    ) -> (Vec<f64>, Vec<f64>) {
        if curve == Curve::Training {
            let sigmas = timesteps.iter().map(|&timestep| self.at(timestep)).collect();
            return (timesteps, sigmas);
        }
        let sigmas = curve.between(self.most(), self.least(), steps);
        let whole = |t: f64| if round { t.round_ties_even() } else { t.trunc() };
        (sigmas.iter().map(|&sigma| whole(self.timestep(sigma))).collect(), sigmas)
    }
}

/// What the schedulers share that run in noise levels and scale the model's input.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    pub levels: Levels,
    pub timesteps: Timesteps,
    pub curve: Curve,
    pub last: Last,
    /// Noise levels that stand for the schedule's own first and last.
    pub bounds: [Option<f64>; 2],
}

impl Ladder {
    pub fn read(settings: Settings, alphas_cumprod: &[f32]) -> Result<Self, SchedulerError> {
        Ok(Self {
            levels: Levels::new(alphas_cumprod),
            timesteps: Timesteps::read(settings, "linspace")?,
            curve: Curve::read(settings)?,
            last: Last::Zero,
            bounds: [None, None],
        })
    }

    /// Timesteps in f32 and their noise levels, not rounded yet.
    pub fn rungs(&self, steps: usize) -> (Vec<f64>, Vec<f64>) {
        let timesteps: Vec<f64> = self.timesteps.fractional(steps).into_iter().map(rounded).collect();
        let sigmas: Vec<f64> = timesteps.iter().map(|&t| self.levels.at(t)).collect();
        if self.curve == Curve::Training {
            return (timesteps, sigmas);
        }
        let from = self.bounds[0].or(sigmas.first().copied()).unwrap_or(0.0);
        let to = self.bounds[1].or(sigmas.last().copied()).unwrap_or(0.0);
        let sigmas = self.curve.between(from, to, steps);
        (sigmas.iter().map(|&sigma| rounded(self.levels.timestep(sigma))).collect(), sigmas)
    }

    /// Noise levels with the last, in f32.
    pub fn with_last(&self, mut sigmas: Vec<f64>) -> Vec<f64> {
        sigmas.push(if self.last == Last::Zero { 0.0 } else { self.levels.least() });
        sigmas.into_iter().map(rounded).collect()
    }

    /// Standard deviation of the noise to start from.
    pub fn initial_sigma(&self, sigmas: &[f64]) -> f64 {
        let most = sigmas.iter().copied().fold(0.0, f64::max);
        match self.timesteps.spacing {
            Spacing::Linspace | Spacing::Trailing => most,
            Spacing::Leading => most.hypot(1.0),
        }
    }
}

/// Rounded to f32.
pub(super) fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

/// What the model's input is multiplied by at a noise level, so that its variance is 1.
pub(super) fn input_scale(sigma: f64) -> f64 {
    1.0 / sigma.hypot(1.0)
}
