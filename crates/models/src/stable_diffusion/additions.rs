//! What a pipeline is opened with besides its own files.

use std::sync::Arc;

use crate::lora::Lora;
use crate::textual_inversion::TextualInversion;
use crate::weights::Files;

/// What goes with a pipeline's files. Start from [`Additions::default`], which is nothing.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Learned words, which are added to the tokenizer and to the text encoder.
    pub words: Vec<TextualInversion>,
    /// What is added to the weights of the UNet and of the text encoder. The order does not matter.
    pub loras: Vec<Lora>,
    /// A folder with the tokenizer's files, or with a folder `tokenizer` that holds them, in place of the pipeline's own.
    /// A checkpoint in one file has none, and is read with CLIP's own where none is given or lies beside it.
    pub tokenizer: Option<Arc<dyn Files>>,
    /// A pipeline's folder whose configurations, scheduler and tokenizer are those of a checkpoint in one file. What it does
    /// not have is taken from the shapes of the weights.
    pub config: Option<Arc<dyn Files>>,
    /// What the model predicts, by diffusers' names: `epsilon`, `v_prediction` or `sample`; as the scheduler's configuration
    /// has it where it is not given. The weights of a checkpoint in one file do not tell.
    pub prediction: Option<String>,
}
