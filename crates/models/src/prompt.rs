//! What people write as prompts: words with weights, and more of them than a text encoder takes at once.
//!
//! [`Syntax::Weighted`] is the syntax of AUTOMATIC1111's web UI
//! (<https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis>):
//!
//! | written | meaning |
//! |---|---|
//! | `(word)` | weight 1.1; `((word))` 1.21 and so on |
//! | `[word]` | weight 1 / 1.1 |
//! | `(word:1.3)` | weight 1.3; 0 and negative ones are allowed |
//! | `\(` `\)` `\[` `\]` `\\` | the sign itself |
//! | `BREAK` | what follows begins a new chunk |
//!
//! A bracket that is never closed reaches to the prompt's end, and one that closes nothing is text. What is no weight,
//! as in `(word:nan)` or `(word:1e9)`, is text too. A prompt is cut into chunks of 75 tokens, each encoded by itself; where
//! a chunk would end within 20 tokens after a comma, it ends at that comma. Not read are the web UI's `[from:to:when]`,
//! `[a|b]`, `AND` and `<lora:...>`. `BREAK` ends a chunk within brackets too, where the web UI takes it for a word.
//!
//! [`Syntax::Plain`] is what diffusers' pipelines do: brackets are text, there is one chunk, and what it does not hold is
//! cut off, which [`Prompt::cut`] tells.

mod chunks;
mod error;
mod parse;
#[cfg(test)]
mod tests;

use kiln_graph::Tensor;

pub use error::PromptError;

use crate::Tokenizer;
use crate::tokenizer::Cut;

/// How a prompt is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// As diffusers' pipelines read it: nothing but text, and no more of it than one chunk holds.
    #[default]
    Plain,
    /// As AUTOMATIC1111's web UI reads it: weights, `BREAK`, any length.
    Weighted,
}

/// A part of a prompt that a text encoder takes at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The start token, tokens, the end token, padding.
    pub ids: Vec<i32>,
    /// Each token's weight: 1 for those that are not the prompt's.
    pub weights: Vec<f32>,
}

/// A prompt, ready for a text encoder.
#[derive(Clone, Debug)]
pub struct Prompt {
    chunks: Vec<Chunk>,
    /// The chunk of no text.
    empty: Chunk,
    cut: Option<Cut>,
}

impl Prompt {
    /// Reads a prompt.
    pub fn new(text: &str, syntax: Syntax, tokenizer: &Tokenizer) -> Result<Self, PromptError> {
        let empty = Chunk::new(&[], tokenizer);
        if syntax == Syntax::Plain {
            let padded = tokenizer.prompt(text)?;
            let chunks = vec![Chunk { weights: vec![1.0; padded.ids.len()], ids: padded.ids }];
            return Ok(Self { chunks, empty, cut: padded.cut });
        }
        let chunks = chunks::fill(&parse::parse(text)?, tokenizer)?;
        Ok(Self { chunks, empty, cut: None })
    }

    /// Reads a prompt and its negative, and makes both of the same number of chunks.
    pub fn pair(
        prompt: &str,
        negative: &str,
        syntax: Syntax,
        tokenizer: &Tokenizer,
    ) -> Result<[Self; 2], PromptError> {
        let mut pair = [Self::new(prompt, syntax, tokenizer)?, Self::new(negative, syntax, tokenizer)?];
        let most = pair.iter().map(|prompt| prompt.chunks.len()).max().unwrap_or(0);
        pair.iter_mut().for_each(|prompt| prompt.pad(most));
        Ok(pair)
    }

    /// Adds chunks of no text until there are so many.
    pub fn pad(&mut self, chunks: usize) {
        while self.chunks.len() < chunks {
            self.chunks.push(self.empty.clone());
        }
    }

    /// The chunks, at least one, all of the same length.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// What was cut off. Never anything where the syntax is [`Syntax::Weighted`].
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// A text encoder's `input_ids` `[chunks, length]`.
    pub fn input_ids(&self) -> Result<Tensor, PromptError> {
        let ids = self.chunks.iter().flat_map(|chunk| chunk.ids.iter().copied()).collect();
        Ok(Tensor::i32([self.chunks.len(), self.empty.ids.len()], ids)?)
    }

    /// Weighs what a text encoder made of [`input_ids`](Self::input_ids), `[chunks, length, width]`, and puts the chunks
    /// one behind the other: `[1, chunks * length, width]` in f32.
    pub fn weigh(&self, embeddings: &Tensor) -> Result<Tensor, PromptError> {
        let (chunks, length) = (self.chunks.len(), self.empty.ids.len());
        let width = match *embeddings.shape() {
            [c, l, width] if (c, l) == (chunks, length) && width > 0 => width,
            _ => {
                let (found, wanted) = (embeddings.shape().to_vec(), [chunks, length]);
                return Err(PromptError::Embeddings { found, wanted });
            }
        };
        let mut values = embeddings.to_f32().into_owned();
        for (chunk, values) in self.chunks.iter().zip(values.chunks_exact_mut(length * width)) {
            apply_weights(values, &chunk.weights)?;
        }
        Ok(Tensor::f32([1, chunks * length, width], values)?)
    }
}

/// Multiplies each token's embedding by its weight, then all of them so that their mean is what it was: the web UI's
/// original emphasis. `embedding` are one chunk's, `[weights.len(), width]`. The web UI takes the mean over all prompts of
/// a batch, here each has its own. [`PromptError::Mean`] where weighing leaves a mean of zero.
pub fn apply_weights(embedding: &mut [f32], weights: &[f32]) -> Result<(), PromptError> {
    let width = embedding.len().checked_div(weights.len()).unwrap_or(0);
    if width == 0 || width * weights.len() != embedding.len() {
        let (found, wanted) = (vec![embedding.len()], [1, weights.len()]);
        return Err(PromptError::Embeddings { found, wanted });
    }
    if weights.iter().all(|&weight| weight == 1.0) {
        return Ok(());
    }
    let (mut before, mut after) = (0.0, 0.0);
    for (row, &weight) in embedding.chunks_exact(width).zip(weights) {
        let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
        before += sum;
        after += sum * f64::from(weight);
    }
    let restore = before / after;
    if !restore.is_finite() {
        return Err(PromptError::Mean);
    }
    for (row, &weight) in embedding.chunks_exact_mut(width).zip(weights) {
        let factor = f64::from(weight) * restore;
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
    }
    Ok(())
}
