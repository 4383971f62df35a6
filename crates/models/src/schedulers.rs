//! Schedulers of diffusion models: which noise levels are visited and how a model's output moves the latents from one to
//! the next. Each is equal to the diffusers class of its name, read from the same `scheduler_config.json`.
//!
//! A [`Scheduler`] makes a [`Schedule`]: plain data, all of it known before the first evaluation of the model. Each of its
//! [`Step`]s is a few sums of tensors times numbers, which a GPU can compute elementwise with the numbers as parameters.
//! A [`Walk`] computes them on slices.
//!
//! ```
//! use kiln_models::schedulers::Scheduler;
//!
//! let config = serde_json::json!({"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear"});
//! let schedule = Scheduler::from_json(&config)?.set_timesteps(20)?;
//! let mut latents = vec![schedule.initial_sigma as f32; 4];
//! let mut walk = schedule.walk(latents.len());
//! while let Some(step) = walk.next() {
//!     let input: Vec<f32> = latents.iter().map(|v| v * step.input_scale as f32).collect();
//!     let output = input; // A model's, at `step.timestep`.
//!     walk.step(&output, None, &mut latents)?;
//! }
//! # Ok::<(), kiln_models::schedulers::SchedulerError>(())
//! ```
//!
//! | class | what is not here |
//! |---|---|
//! | `DDIMScheduler` | `thresholding`, `use_clipped_model_output` |
//! | `DDPMScheduler` | `thresholding`, learned variances, `fixed_large_log`, the sigmoid and laplace betas |
//! | `PNDMScheduler` | |
//! | `LMSDiscreteScheduler`, `EulerDiscreteScheduler`, `HeunDiscreteScheduler` | `use_beta_sigmas`, `log_linear` interpolation, the exp betas |
//! | `EulerAncestralDiscreteScheduler` | |
//! | `DPMSolverMultistepScheduler`, `UniPCMultistepScheduler` | `thresholding`, `use_beta_sigmas`, flow matching, learned variances, `solver_p` |
//! | `DPMSolverSDEScheduler` | `use_beta_sigmas`; the random path of the torchsde package, for which independent noise of the same distribution stands |
//! | `LCMScheduler` | `thresholding` |
//!
//! What is not here is refused by name, not passed over.

mod betas;
mod convert;
mod ddim;
mod ddpm;
mod dpm_multistep;
mod dpm_sde;
mod error;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod lms;
mod plan;
mod pndm;
mod settings;
mod sigmas;
mod spacing;
mod unipc;
mod walk;

use serde_json::Value as Json;

pub use error::SchedulerError;
pub use plan::{Slot, Step, Sum, Update};
pub use walk::Walk;

use settings::Settings;

/// A scheduler with its settings.
#[derive(Debug)]
pub struct Scheduler {
    class: String,
    training: usize,
    method: Box<dyn Method>,
}

/// What a pipeline chooses beside the number of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// The evaluation to start at, for pictures that are noised and not made of noise alone: counted in
    /// [`Schedule::timesteps`]. What came before it is as if it had not been.
    pub first: usize,
    /// DDIM's share of fresh noise, from 0 for none to 1 for as much as DDPM adds. Others pass it over.
    pub eta: f64,
}

/// A number of steps worked out.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The timestep of every evaluation of the model, noisiest first, in timesteps of training. Some schedulers evaluate
    /// the model more often than there are steps.
    pub timesteps: Vec<f64>,
    /// The noise levels before every evaluation and after the last, for the schedulers that run in them; else empty.
    pub sigmas: Vec<f64>,
    /// Standard deviation of the noise to start from: latents are standard normal numbers times this.
    pub initial_sigma: f64,
    /// The evaluations from [`Options::first`] on.
    pub steps: Vec<Step>,
    /// For every evaluation how clean latents ([`Slot::Latents`]) are noised ([`Slot::Noise`]) to start at it.
    pub noised: Vec<Sum>,
    /// Tensors that are kept between steps.
    pub kept: usize,
}

impl Scheduler {
    /// The scheduler of a `scheduler_config.json`; [`SchedulerError`] where it is not one or has a setting that is not
    /// supported.
    pub fn from_json(config: &Json) -> Result<Self, SchedulerError> {
        let class = config.get("_class_name").and_then(Json::as_str).unwrap_or_default();
        Self::from_json_as(class, config)
    }

    /// Another class with the settings of a configuration, as diffusers' `from_config` makes it of a file: settings that
    /// the file does not name have the defaults of the new class.
    pub fn from_json_as(class: &str, config: &Json) -> Result<Self, SchedulerError> {
        let settings = Settings { class, json: config };
        let method: Box<dyn Method> = match class {
            "DDIMScheduler" => Box::new(ddim::Ddim::read(settings)?),
            "PNDMScheduler" => Box::new(pndm::Pndm::read(settings)?),
            "EulerDiscreteScheduler" => Box::new(euler::Euler::read(settings)?),
            "EulerAncestralDiscreteScheduler" => Box::new(euler_ancestral::EulerAncestral::read(settings)?),
            "HeunDiscreteScheduler" => Box::new(heun::Heun::read(settings)?),
            "LMSDiscreteScheduler" => Box::new(lms::Lms::read(settings)?),
            "DDPMScheduler" => Box::new(ddpm::Ddpm::read(settings)?),
            "LCMScheduler" => Box::new(lcm::Lcm::read(settings)?),
            "DPMSolverMultistepScheduler" => Box::new(dpm_multistep::DpmMultistep::read(settings)?),
            "DPMSolverSDEScheduler" => Box::new(dpm_sde::DpmSde::read(settings)?),
            "UniPCMultistepScheduler" => Box::new(unipc::UniPc::read(settings)?),
            _ => return Err(SchedulerError::Class(class.into())),
        };
        Ok(Self { class: class.into(), training: settings.training()?, method })
    }

    /// The scheduler of the text of a `scheduler_config.json`; see [`Scheduler::config_of`].
    pub fn from_text(text: &str) -> Result<Self, SchedulerError> {
        Self::from_json(&Self::config_of(text)?)
    }

    /// The configuration in the text of a `scheduler_config.json`. Python writes `-Infinity` into some, which is no JSON
    /// but is understood here.
    pub fn config_of(text: &str) -> Result<Json, SchedulerError> {
        let config = serde_json::from_str(&settings::without_infinities(text));
        config.map_err(|error| SchedulerError::Json(error.to_string()))
    }

    /// Evaluations of the model a step, but for the last: 2 where each step is taken twice, as by Heun's method.
    pub fn order(&self) -> usize {
        self.method.order()
    }

    /// A schedule of `steps` steps from noise.
    pub fn set_timesteps(&self, steps: usize) -> Result<Schedule, SchedulerError> {
        self.set_timesteps_with(steps, &Options::default())
    }

    /// A schedule of `steps` steps; [`SchedulerError`] where these are none or more than those of training, or where the
    /// settings allow no finite step.
    pub fn set_timesteps_with(&self, steps: usize, options: &Options) -> Result<Schedule, SchedulerError> {
        let class = || self.class.clone();
        let (least, most) = (self.method.least_steps(), self.method.most_steps().unwrap_or(self.training));
        if !(least..=most).contains(&steps) {
            return Err(SchedulerError::Steps { class: class(), least, most, steps });
        }
        let table = self.method.table(steps);
        let (first, evaluations) = (options.first, table.timesteps.len());
        if first >= evaluations || !self.method.starts_at(first) {
            return Err(SchedulerError::First { class: class(), first, evaluations });
        }
        if let Some(training) = self.method.reach()
            && let Some(&timestep) = table.timesteps.iter().find(|&&t| t >= training as f64)
        {
            return Err(SchedulerError::Timestep { class: class(), timestep, training });
        }
        let plan = self.method.steps(&table, options);
        if let Some(step) = plan.iter().find(|step| !step.is_finite()) {
            return Err(SchedulerError::NotFinite { class: class(), timestep: step.timestep });
        }
        Ok(Schedule {
            noised: (0..evaluations).map(|index| self.method.noised(&table, index)).collect(),
            kept: plan.iter().map(Step::kept).max().unwrap_or(0),
            steps: plan,
            timesteps: table.timesteps,
            sigmas: table.sigmas,
            initial_sigma: table.initial_sigma,
        })
    }
}

impl Schedule {
    /// Carries the steps out on a CPU, on latents of `length` elements.
    pub fn walk(&self, length: usize) -> Walk<'_> {
        Walk::new(self, length)
    }
}

/// The timesteps and noise levels of a number of steps.
#[derive(Clone, Debug)]
struct Table {
    /// Steps asked for.
    steps: usize,
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    initial_sigma: f64,
}

impl Table {
    /// A table without noise levels.
    fn plain(timesteps: Vec<f64>) -> Self {
        Self { steps: timesteps.len(), timesteps, sigmas: Vec::new(), initial_sigma: 1.0 }
    }

    /// The noise level before an evaluation, or after the last.
    fn sigma(&self, index: usize) -> f64 {
        self.sigmas.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// One scheduler's way of stepping.
trait Method: std::fmt::Debug + Send + Sync {
    /// Timesteps and noise levels of a number of steps.
    fn table(&self, steps: usize) -> Table;

    /// What each evaluation from the first chosen on leads to. A coefficient that is not finite stands for a step that
    /// there is not.
    fn steps(&self, table: &Table, options: &Options) -> Vec<Step>;

    /// How clean latents are noised to start at an evaluation.
    fn noised(&self, table: &Table, index: usize) -> Sum;

    /// Timesteps must be below this.
    fn reach(&self) -> Option<usize> {
        None
    }

    /// Fewest steps.
    fn least_steps(&self) -> usize {
        1
    }

    /// Most steps, where they are not those of training.
    fn most_steps(&self) -> Option<usize> {
        None
    }

    /// Evaluations a step.
    fn order(&self) -> usize {
        1
    }

    /// Whether a schedule can begin at an evaluation.
    fn starts_at(&self, first: usize) -> bool {
        first.is_multiple_of(self.order())
    }
}

#[cfg(test)]
mod tests;
