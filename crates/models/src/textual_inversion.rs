//! Textual inversion: "An Image is Worth One Word" (Gal et al. 2022, <https://arxiv.org/abs/2208.01618>). New words for a
//! text encoder, each with one learned vector or several.
//!
//! Files are `.safetensors` in diffusers' layout, one tensor `[n, width]` or `[width]` whose name is the word, or in that of
//! AUTOMATIC1111's web UI, a tensor `emb_params` `[n, width]` in a file that has the word's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_graph::{GraphError, Tensor, WeightSource};

use crate::clip_text::token_table;
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Files, SharedWeights, WeightError, Weights};
use crate::{Error, TokenizerError};

/// The web UI's name for vectors.
const EMB_PARAMS: &str = "emb_params";

/// A word and its vectors.
#[derive(Clone, Debug)]
pub struct TextualInversion {
    name: String,
    /// `[n, width]` in f32.
    vectors: Tensor,
    file: String,
}

impl TextualInversion {
    /// Reads a file. `name` is the word, where it is not to be that of the file.
    pub fn open(files: &Arc<dyn Files>, file: &str, name: Option<&str>) -> Result<Self, WeightError> {
        let weights = Checkpoint::file(files, file)?;
        let names = weights.names();
        let wrong = |reason: String| WeightError::File { file: weights.display(), reason };
        let tensor = match names.iter().find(|name| *name == EMB_PARAMS) {
            Some(tensor) => tensor,
            None => match names.as_slice() {
                [only] => only,
                _ => {
                    let found = names.len();
                    let reason =
                        format!("a textual inversion is one tensor or {EMB_PARAMS}, and it holds {found}");
                    return Err(wrong(reason));
                }
            },
        };
        let stem = file.rsplit('/').next().unwrap_or(file);
        let stem = stem.strip_suffix(".safetensors").unwrap_or(stem);
        let own = if tensor == EMB_PARAMS { stem } else { tensor };
        let loaded = weights.read(tensor)?;
        let shape = match *loaded.shape() {
            [width] if width > 0 => [1, width],
            [count, width] if count > 0 && width > 0 => [count, width],
            ref shape => {
                let reason = format!("has shape {shape:?}, not that of vectors of one width");
                return Err(WeightError::Tensor { file: weights.display(), name: tensor.clone(), reason });
            }
        };
        let vectors = Tensor::f32(shape, loaded.to_f32().into_owned())
            .map_err(|error| wrong(format!("its vectors cannot be read: {error}")))?;
        Ok(Self { name: name.unwrap_or(own).to_string(), vectors, file: weights.display() })
    }

    /// The word, as prompts have it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its vectors, `[n, width]` in f32.
    pub fn vectors(&self) -> &Tensor {
        &self.vectors
    }

    /// Teaches the word to a tokenizer and a text encoder's weights, and gives its tokens' ids. Neither is changed where
    /// the vectors do not fit the encoder, or the word is a token already.
    pub fn add_to(&self, tokenizer: &mut Tokenizer, weights: &mut WithTokens) -> Result<Vec<i32>, Error> {
        let rows = self.vectors.shape().first().copied().unwrap_or(0);
        weights.fit(self)?;
        if tokenizer.vocab_size() > weights.rows() {
            let (tokens, rows) = (tokenizer.vocab_size(), weights.rows());
            let reason =
                format!("cannot be added: the tokenizer knows {tokens} tokens, and the encoder {rows}");
            return Err(TokenizerError::Name { name: self.name.clone(), reason }.into());
        }
        let ids = tokenizer.add_token(&self.name, rows)?;
        weights.add(self, &ids);
        Ok(ids)
    }
}

/// A text encoder's weights and the vectors of added tokens. Its table of tokens has a row for each, behind those of the
/// tokenizer's other tokens. A row that was there without a token is replaced.
pub struct WithTokens {
    inner: SharedWeights,
    /// The table's name.
    table: String,
    /// The table's shape, with the added rows.
    shape: Vec<usize>,
    width: usize,
    /// The added rows by their tokens' ids.
    rows: BTreeMap<usize, Vec<f32>>,
}

impl WithTokens {
    /// The weights as they are, in the layouts that [`ClipText`](crate::clip_text::ClipText) reads.
    pub fn new(inner: SharedWeights) -> Result<Self, WeightError> {
        let table = token_table(&*inner);
        let (shape, width) = match inner.shape(&table) {
            Some(shape @ &[_, width]) => (shape.to_vec(), width),
            found => {
                let reason = match found {
                    Some(shape) => format!("has shape {shape:?}, not that of a table"),
                    None => "is missing".into(),
                };
                return Err(WeightError::Tensor { file: inner.display(), name: table, reason });
            }
        };
        Ok(Self { inner, table, shape, width, rows: BTreeMap::new() })
    }

    /// How many tokens the table has.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Refuses vectors of another width than the table's.
    fn fit(&self, inversion: &TextualInversion) -> Result<(), WeightError> {
        let width = inversion.vectors.shape().last().copied().unwrap_or(0);
        if width == self.width {
            return Ok(());
        }
        let reason = format!(
            "the vectors of {:?} have {width} numbers, and those of the text encoder have {}",
            inversion.name, self.width
        );
        Err(WeightError::File { file: inversion.file.clone(), reason })
    }

    /// Gives tokens their vectors.
    fn add(&mut self, inversion: &TextualInversion, ids: &[i32]) {
        let values = inversion.vectors.to_f32();
        let ids = ids.iter().filter_map(|&id| usize::try_from(id).ok());
        for (id, row) in ids.zip(values.chunks_exact(self.width)) {
            self.rows.insert(id, row.to_vec());
            if let Some(rows) = self.shape.first_mut() {
                *rows = (*rows).max(id + 1);
            }
        }
    }
}

impl WeightSource for WithTokens {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let tensor = self.inner.load(name)?;
        if name != self.table || self.rows.is_empty() {
            return Ok(tensor);
        }
        let mut values = tensor.to_f32().into_owned();
        values.resize(self.shape.iter().product(), 0.0);
        for (id, row) in &self.rows {
            if let Some(place) = values.chunks_exact_mut(self.width).nth(*id) {
                place.copy_from_slice(row);
            }
        }
        let table = Tensor::f32(self.shape.clone(), values).map_err(|error| GraphError::Value {
            what: "weight",
            name: name.into(),
            reason: error.to_string(),
        })?;
        Ok(table.cast(tensor.dtype()))
    }
}

impl Weights for WithTokens {
    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        if name == self.table { Some(&self.shape) } else { self.inner.shape(name) }
    }

    fn display(&self) -> String {
        self.inner.display()
    }
}

#[cfg(test)]
mod tests;
