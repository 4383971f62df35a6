//! What can be wrong with a prompt, or its embeddings.

use kiln_graph::LengthError;

use super::chunks::MAX_CHUNKS;
use super::parse::MAX_DEPTH;
use crate::TokenizerError;

/// A prompt that is not read, or embeddings that are not its. Each is one plain sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The text cannot be made tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A weight such as 1.2.3, or one that is too large together with those around it.
    #[error("the prompt's weight {0} is no number that fits in 32 bits")]
    Weight(String),
    /// Brackets within brackets.
    #[error("the prompt's brackets are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// A prompt that would keep a text encoder busy for good.
    #[error("the prompt fills more than {MAX_CHUNKS} chunks")]
    Chunks,
    /// Embeddings of another shape than the prompt's chunks.
    #[error("embeddings of shape {found:?} are not those of {} chunks of {} tokens", wanted[0], wanted[1])]
    Embeddings {
        /// Their shape.
        found: Vec<usize>,
        /// Chunks and tokens of each.
        wanted: [usize; 2],
    },
    /// Weights that cancel out.
    #[error("the prompt's weights leave embeddings of mean zero, of which the original mean cannot be made")]
    Mean,
    /// More elements than a tensor holds.
    #[error(transparent)]
    Length(#[from] LengthError),
}
