//! What can be wrong with a scheduler's configuration or its use.

/// Why there is no scheduler, no schedule or no step.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SchedulerError {
    /// The text is no JSON.
    #[error("the scheduler's configuration is no JSON: {0}")]
    Json(String),
    /// A class that is not here.
    #[error("the scheduler {0:?} is not one that Kiln knows")]
    Class(String),
    /// A setting of another kind than it should be.
    #[error("{class}: {key} is {value}, not {kind}")]
    Setting {
        /// The scheduler's class.
        class: String,
        /// The setting.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        kind: &'static str,
    },
    /// A setting that means something, but nothing that is here.
    #[error("{class}: {key} {value} is not supported")]
    Unsupported {
        /// The scheduler's class.
        class: String,
        /// The setting.
        key: &'static str,
        /// What it is.
        value: String,
    },
    /// A noise level of training that is not from 0 up to but not including 1.
    #[error("{class}: the beta of training timestep {timestep} is {value}")]
    Beta {
        /// The scheduler's class.
        class: String,
        /// Where it is.
        timestep: usize,
        /// What it is.
        value: f32,
    },
    /// No steps, or more than the scheduler can take.
    #[error("{class} takes from {least} to {most} steps, not {steps}")]
    Steps {
        /// The scheduler's class.
        class: String,
        /// Fewest steps.
        least: usize,
        /// Most steps.
        most: usize,
        /// Those asked for.
        steps: usize,
    },
    /// A start at an evaluation that is not there or cannot be started from.
    #[error("{class} cannot start at evaluation {first} of {evaluations}")]
    First {
        /// The scheduler's class.
        class: String,
        /// The start.
        first: usize,
        /// Evaluations of the whole schedule.
        evaluations: usize,
    },
    /// A timestep beyond training.
    #[error("{class}: timestep {timestep} is not below the {training} of training")]
    Timestep {
        /// The scheduler's class.
        class: String,
        /// The timestep.
        timestep: f64,
        /// Timesteps of training.
        training: usize,
    },
    /// A coefficient that is infinite or no number: the settings do not fit together.
    #[error("{class} has no finite step from timestep {timestep}")]
    NotFinite {
        /// The scheduler's class.
        class: String,
        /// The timestep.
        timestep: f64,
    },
    /// A step after the last.
    #[error("the schedule has ended")]
    Ended,
    /// No noise for a step that adds some.
    #[error("the step from timestep {0} needs noise")]
    Noise(f64),
    /// Tensors of different lengths.
    #[error("{what} has {found} elements, not {wanted}")]
    Length {
        /// Which tensor.
        what: &'static str,
        /// Its elements.
        found: usize,
        /// The latents' elements.
        wanted: usize,
    },
}
