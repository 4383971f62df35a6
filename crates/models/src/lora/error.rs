//! What can be wrong with a LoRA.

use super::key::Refusal;
use crate::weights::WeightError;

/// A LoRA that cannot be merged. Each is one plain sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// The file cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The scale is no number.
    #[error("{file}: a scale of {scale} is no finite number")]
    Scale {
        /// The file.
        file: String,
        /// The scale.
        scale: f32,
    },
    /// It is no LoRA, though it is meant for the same purpose.
    #[error("{file}: tensor {key:?} is part of {kind}, and Kiln merges plain LoRA alone")]
    Kind {
        /// The file.
        file: String,
        /// The first tensor of that kind.
        key: String,
        /// What it is.
        kind: &'static str,
    },
    /// A tensor that means nothing to Kiln.
    #[error("{file}: tensor {key:?} is part of no LoRA that Kiln knows")]
    Unknown {
        /// The file.
        file: String,
        /// The tensor.
        key: String,
    },
    /// There is not one tensor.
    #[error("{file}: it holds no tensor")]
    Empty {
        /// The file.
        file: String,
    },
    /// A weight's tensors are not all there.
    #[error("{file}: {module} has not both of the tensors that make a LoRA")]
    Incomplete {
        /// The file.
        file: String,
        /// The weight's module, as the file names it.
        module: String,
    },
    /// An alpha that is not one finite number.
    #[error("{file}: tensor {key:?} is not one finite number")]
    Alpha {
        /// The file.
        file: String,
        /// The tensor.
        key: String,
    },
    /// The file's metadata cannot be read.
    #[error("{file}: its metadata {key} {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// The metadata's name.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The model has no such weight.
    #[error("{file} is for another model: tensor {key:?} fits no weight of {model}")]
    Foreign {
        /// The file.
        file: String,
        /// The first such tensor.
        key: String,
        /// The model's part.
        model: String,
    },
    /// The model's weight has another shape.
    #[error("{file} is for another model: tensor {key:?} has shape {has:?}, and {other} has {wants:?}")]
    Shape {
        /// The file.
        file: String,
        /// The first such tensor.
        key: String,
        /// Its shape.
        has: Vec<usize>,
        /// The tensor that it does not fit: the model's, or another of the file.
        other: String,
        /// The other's shape.
        wants: Vec<usize>,
    },
}

impl LoraError {
    pub(super) fn of(file: &str, key: &str, refusal: Refusal) -> Self {
        let (file, key) = (file.to_string(), key.to_string());
        match refusal {
            Refusal::Kind(kind) => Self::Kind { file, key, kind },
            Refusal::Unknown => Self::Unknown { file, key },
        }
    }
}
