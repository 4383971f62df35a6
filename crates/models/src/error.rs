//! What can go wrong with a model.

use kiln_graph::GraphError;

use crate::code_codec::CodesError;
use crate::weights::WeightError;
use crate::{LoraError, PromptError, TokenizerError};

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
    /// The model's states were lost: it had to be compiled again, since a tensor left f16's range after the first run.
    #[error(
        "a tensor left f16's range, and its op runs in f32 now: the model has to begin again, for its states are lost"
    )]
    StatesLost,
    /// The weights cannot be had or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The tokenizer cannot be had, or does not take a text or a token.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A prompt is not read.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A LoRA cannot be merged.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// Codes are not the model's.
    #[error("the code map {0}")]
    Codes(#[from] CodesError),
    /// The graph cannot be built or computed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device cannot compute it.
    #[error(transparent)]
    Engine(#[from] kiln_engine::Error),
}
