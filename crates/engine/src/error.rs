//! What can go wrong on a device.

use kiln_graph::{GraphError, OpError};

/// An error of the engine. Each is one plain sentence.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no adapter, or none that was asked for.
    #[error("no GPU was found: {0}")]
    NoAdapter(String),
    /// The device does not offer something that was asked for.
    #[error("{device} does not offer {feature}")]
    Unsupported {
        /// The device's name.
        device: String,
        /// What is missing.
        feature: String,
    },
    /// The device was lost: reset, unplugged, destroyed or out of memory while it worked.
    #[error("the GPU was lost: {0}")]
    DeviceLost(String),
    /// A buffer could not be had.
    #[error("the GPU is out of memory: {0}")]
    OutOfMemory(String),
    /// Something takes more than the device allows, and cannot be split.
    #[error("at {node:?}: {what} needs {needed}, and {device} allows {limit}")]
    Limit {
        /// Path of the node in the model.
        node: String,
        /// What is too large.
        what: String,
        /// How much is needed.
        needed: u64,
        /// How much the device allows.
        limit: u64,
        /// The device's name.
        device: String,
    },
    /// A shader does not compile or does not fit its launch.
    #[error("the shader of {label} is not valid: {message}")]
    Shader {
        /// The op and launch.
        label: String,
        /// The compiler's message.
        message: String,
    },
    /// The API refused a call: a fault of the engine or of a user's own op.
    #[error("the GPU refused a call: {0}")]
    Validation(String),
    /// The device did not answer in time.
    #[error("the GPU did not answer within {0} seconds")]
    Timeout(u64),
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// The graph, its weights or the inputs do not fit.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Error {
    pub(crate) fn op(path: &str, error: OpError) -> Self {
        Error::Graph(GraphError::Op { path: path.to_string(), error })
    }

    /// Whether the device is gone, so that only a new [`crate::Gpu`] helps.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Error::DeviceLost(_) | Error::Timeout(_))
    }
}
