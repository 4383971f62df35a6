//! What can be wrong with a tokenizer's files, or a text.

/// Why there is no tokenizer, or a text has no tokens. Each is one plain sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The system's answer.
        #[source]
        error: std::io::Error,
    },
    /// A file, or the folder, is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A text that is not read.
    #[error("the text {0}")]
    Text(String),
    /// A token that cannot be added.
    #[error("the token {name:?} {reason}")]
    Name {
        /// The token.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
