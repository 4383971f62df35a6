//! What can go wrong with a model.

use kiln_graph::GraphError;

use crate::weights::WeightError;

/// A model that cannot be built or run. Each is one plain sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not what it should be, or asks for what Kiln does not do.
    #[error("config.json: {0}")]
    Config(String),
    /// A request that the model cannot take.
    #[error("{0}")]
    Input(String),
    /// The weights cannot be had or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The graph cannot be built or computed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device cannot compute it.
    #[error(transparent)]
    Engine(#[from] kiln_engine::Error),
}
