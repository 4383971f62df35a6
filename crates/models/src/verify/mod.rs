//! Parity with somebody else's tensors: `kiln verify`.
//!
//! A folder holds `inputs.safetensors`, `expected.safetensors` and a `config.json` that says what computes the one
//! from the other: a list of single ops ([`ops`]) or a model ([`models`]).

mod case;
mod compare;
mod model;
pub mod models;
pub mod ops;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use case::OpCase;
pub use compare::{Gates, Row, Verdict};
pub use model::{ModelRun, all, channels_second};

use kiln_engine::{Gpu, Precision};
use kiln_graph::{Graph, GraphError, LengthError, Tensor};

use crate::Runner;
use crate::weights::{Files, SharedWeights, WeightError};

/// A comparison that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The graph cannot be built or computed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device cannot compute it.
    #[error(transparent)]
    Engine(#[from] kiln_engine::Error),
    /// A tensor file cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// Elements do not fill a shape.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The model cannot be built or run.
    #[error(transparent)]
    Model(#[from] crate::Error),
    /// A case's parameter is missing or is something else.
    #[error("parameter {name:?} {reason}")]
    Param {
        /// The parameter.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A case lacks a tensor or holds an unfit one.
    #[error("tensor {name:?} {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Kiln does not compute this; the case is listed as not compared.
    #[error("{0}")]
    Unsupported(String),
}

/// What computes.
#[derive(Clone, Copy, Debug)]
pub enum Device<'a> {
    /// The CPU reference.
    Cpu,
    /// A GPU.
    Gpu(&'a Gpu),
}

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What computes.
    pub device: Device<'a>,
    /// Storage type.
    pub precision: Precision,
    /// When two tensors agree.
    pub gates: Gates,
    /// Whether hidden layers are compared too.
    pub layers: bool,
}

/// Verifies a folder of single ops or of a model; `each` hears of every tensor. [`VerifyError::Unsupported`] where
/// Kiln does not have the model.
pub async fn verify(
    files: Arc<dyn Files>,
    options: &Options<'_>,
    each: &mut dyn FnMut(Row),
) -> Result<(), VerifyError> {
    let config = model::config(&files)?;
    if config.get("op").is_some() && config.get("cases").is_some() {
        ops::verify(files, &config, options, each).await
    } else {
        model::verify(files, &config, options, each).await
    }
}

impl Device<'_> {
    pub(crate) fn owned(self) -> crate::Device {
        match self {
            Device::Cpu => crate::Device::Cpu,
            Device::Gpu(gpu) => crate::Device::Gpu(gpu.clone()),
        }
    }

    /// Computes a graph's outputs once. With f16 storage, nodes whose path is in `keep_f32` stay f32, and those whose
    /// tensors leave its range.
    pub(crate) async fn run(
        self,
        graph: &Graph,
        weights: SharedWeights,
        precision: Precision,
        keep_f32: BTreeSet<String>,
        inputs: &[(&str, Tensor)],
    ) -> Result<Vec<Tensor>, VerifyError> {
        let mut runner =
            Runner::new(&self.owned(), graph, weights, precision, keep_f32, &mut |_, _| {}).await?;
        Ok(runner.run(inputs).await?)
    }
}
