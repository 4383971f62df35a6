//! What a pipeline is opened with besides its own files.

use crate::lora::Lora;
use crate::textual_inversion::TextualInversion;

/// What goes with a pipeline's files. Start from [`Additions::default`], which is nothing.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Learned words, which are added to the tokenizer and to the text encoder.
    pub words: Vec<TextualInversion>,
    /// What is added to the weights of the UNet and of the text encoder. The order does not matter.
    pub loras: Vec<Lora>,
}
