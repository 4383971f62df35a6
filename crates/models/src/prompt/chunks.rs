//! From texts with weights to chunks of tokens.

use super::parse::Part;
use super::{Chunk, PromptError};
use crate::Tokenizer;

/// Most chunks of a prompt.
pub(super) const MAX_CHUNKS: usize = 1000;
/// How many tokens before a chunk's end a comma may be for the chunk to end there, the web UI's
/// `comma_padding_backtrack`.
const BACKTRACK: usize = 20;

/// A token and its weight.
type Weighted = (i32, f32);

impl Chunk {
    /// A chunk of these tokens between start and end.
    pub(super) fn new(tokens: &[Weighted], tokenizer: &Tokenizer) -> Self {
        let mut chunk = Self { ids: vec![tokenizer.start()], weights: vec![1.0] };
        chunk.ids.extend(tokens.iter().map(|(id, _)| id));
        chunk.ids.push(tokenizer.end());
        chunk.ids.resize(tokenizer.max_length(), tokenizer.pad());
        chunk.weights.extend(tokens.iter().map(|(_, weight)| weight));
        chunk.weights.resize(tokenizer.max_length(), 1.0);
        chunk
    }
}

/// The chunks of a prompt, at least one.
pub(super) fn fill(parts: &[Part], tokenizer: &Tokenizer) -> Result<Vec<Chunk>, PromptError> {
    let mut filler = Filler::new(tokenizer);
    for part in parts {
        let (text, weight) = match part {
            Part::Break => {
                filler.end(filler.open.len())?;
                continue;
            }
            Part::Text(text, weight) => (text, *weight as f32),
        };
        let tokens = tokenizer.encode(text)?;
        let mut tokens = tokens.as_slice();
        while let Some(first) = tokens.first() {
            let (word, others) = tokens.split_at((first.rest + 1).min(tokens.len()));
            filler.push(first.id, word.iter().map(|token| (token.id, weight)))?;
            tokens = others;
        }
    }
    if !filler.open.is_empty() || filler.chunks.is_empty() {
        filler.end(filler.open.len())?;
    }
    Ok(filler.chunks)
}

struct Filler<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens that a chunk takes between start and end.
    room: usize,
    comma: Option<i32>,
    chunks: Vec<Chunk>,
    /// The tokens of the chunk that is being filled.
    open: Vec<Weighted>,
    /// Where its last comma is.
    last_comma: Option<usize>,
}

impl<'a> Filler<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let (room, comma) = (tokenizer.max_length().saturating_sub(2), tokenizer.id(",</w>"));
        Self { tokenizer, room, comma, chunks: Vec::new(), open: Vec::new(), last_comma: None }
    }

    /// A token, or all of an added token's, which stay in one chunk.
    fn push(&mut self, id: i32, word: impl ExactSizeIterator<Item = Weighted>) -> Result<(), PromptError> {
        if Some(id) == self.comma {
            self.last_comma = Some(self.open.len());
        } else if let Some(comma) = self.last_comma
            && self.open.len() == self.room
            && self.room - comma <= BACKTRACK
        {
            self.end(comma + 1)?;
        }
        if self.open.len() + word.len() > self.room {
            self.end(self.open.len())?;
        }
        self.open.extend(word);
        Ok(())
    }

    /// Ends the chunk after so many of its tokens; the others begin the next.
    fn end(&mut self, after: usize) -> Result<(), PromptError> {
        if self.chunks.len() == MAX_CHUNKS {
            return Err(PromptError::Chunks);
        }
        let next = self.open.split_off(after.min(self.open.len()));
        self.chunks.push(Chunk::new(&self.open, self.tokenizer));
        self.open = next;
        self.last_comma = None;
        Ok(())
    }
}
