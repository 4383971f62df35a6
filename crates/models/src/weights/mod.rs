//! Weights: where they come from and what can be wrong with them.

mod files;
mod safetensors;

pub use ::safetensors::Dtype as FileDType;
#[cfg(not(target_arch = "wasm32"))]
pub use files::Folder;
pub use files::{Files, Memory};
pub use safetensors::{Entry, SafeTensors};

/// Weights that cannot be had. Each is one plain sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The system's answer.
        #[source]
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is not what it should be.
    #[error("{file}: tensor {name:?} {reason}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
