//! CLIP's tokenizer: byte-pair encoding (Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>) of lower-cased text.
//!
//! A text is put in Unicode's form C, white space becomes one space, letters become small. It is cut into words,
//! single digits and runs of other signs, and each piece's bytes are merged pair by pair, the last with the mark `</w>`.
//! The steps are those of transformers' `CLIPTokenizer`, in the `tokenizers` crate that it is built on, so the ids are the
//! same. Files: `tokenizer.json`, or `vocab.json` and `merges.txt`, and beside them what is there of
//! `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`. CLIP's own vocabulary needs none: its merges,
//! which are OpenAI's (MIT licence), are within the library.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kiln_models::Tokenizer;
//! use kiln_models::weights::{Files, Folder};
//!
//! let files: Arc<dyn Files> = Arc::new(Folder::new("stable-diffusion-v1-5/tokenizer"));
//! let tokenizer = Tokenizer::from_files(&files)?;
//! let prompt = tokenizer.prompt("a photo of a cat")?;
//! assert_eq!(prompt.ids[..7], [49406, 320, 1125, 539, 320, 2368, 49407]);
//! # Ok::<(), kiln_models::TokenizerError>(())
//! ```

pub(crate) mod clip;
mod error;
mod read;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizedString, Normalizer, SplitDelimiterBehavior};

pub use error::TokenizerError;
use read::{Names, Vocabulary};

use crate::weights::Files;

/// Longest text, in bytes: far more than a prompt is, and little enough to be read in a second.
const MAX_TEXT: usize = 1 << 20;

/// What a text's pieces are.
const PIECES: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A tokenizer: its vocabulary and the tokens that begin, end and fill up a prompt.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: i32,
    end: i32,
    pad: i32,
    max_length: usize,
    /// All ids of an added token of several vectors, by its first.
    vectors: HashMap<i32, Vec<i32>>,
}

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub id: i32,
    /// Byte of the text at which that begins for which it stands.
    pub start: usize,
    /// How many of the tokens after it belong to it: an added token of n vectors is n tokens.
    pub rest: usize,
}

/// A prompt of the length that a text encoder takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padded {
    /// The start token, the text's tokens, the end token, padding: [`Tokenizer::max_length`] in all.
    pub ids: Vec<i32>,
    /// What there was no room for.
    pub cut: Option<Cut>,
}

/// What was cut off a prompt, since the text encoder takes no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many tokens.
    pub tokens: usize,
    /// Their text.
    pub text: String,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the last {} tokens of the prompt were cut off: {:?}", self.tokens, self.text)
    }
}

impl Tokenizer {
    /// The tokenizer of a folder.
    pub fn from_files(files: &Arc<dyn Files>) -> Result<Self, TokenizerError> {
        Self::filling_with(files, None)
    }

    /// The tokenizer of a folder, with another token to fill up prompts, where the vocabulary has it.
    pub(crate) fn filling_with(files: &Arc<dyn Files>, pad: Option<&str>) -> Result<Self, TokenizerError> {
        let mut vocabulary = Vocabulary::read(files)?;
        if let Some(pad) = pad.filter(|pad| vocabulary.tokens.contains_key(*pad)) {
            vocabulary.names.fill_with(pad);
        }
        Self::new(vocabulary, &files.display(""))
    }

    /// CLIP's tokenizer, without a folder: with `<|endoftext|>` to fill up prompts the one of Stable Diffusion 1.x, with `!`
    /// that of 2.x. [`TokenizerError::File`] where `pad` is not in the vocabulary.
    ///
    /// ```
    /// use kiln_models::Tokenizer;
    ///
    /// let tokenizer = Tokenizer::clip("<|endoftext|>")?;
    /// let prompt = tokenizer.prompt("a photo of a cat")?;
    /// assert_eq!(prompt.ids[..7], [49406, 320, 1125, 539, 320, 2368, 49407]);
    /// # Ok::<(), kiln_models::TokenizerError>(())
    /// ```
    pub fn clip(pad: &str) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::clip(pad)?;
        if !vocabulary.tokens.contains_key(pad) {
            let reason = format!("it has no token {pad:?}");
            return Err(TokenizerError::File { file: clip::NAME.into(), reason });
        }
        Self::new(vocabulary, clip::NAME)
    }

    /// The tokenizer of a vocabulary; errors say where it is from.
    fn new(vocabulary: Vocabulary, from: &str) -> Result<Self, TokenizerError> {
        let Vocabulary { tokens, merges, names, max_length } = vocabulary;
        let bpe = BPE::builder().vocab_and_merges(tokens, merges).end_of_word_suffix("</w>".into());
        // The crate's cache stays with the thread for good; prompts are too short to miss it.
        let bpe = bpe.cache_capacity(0).unk_token(names.unknown.clone());
        let built = bpe.build().and_then(|bpe| pipeline(bpe, &names));
        let wrong = |reason: String| TokenizerError::File { file: from.into(), reason };
        let inner = built.map_err(|error| wrong(format!("it holds no tokenizer: {error}")))?;
        for (id, token) in &names.numbered {
            if inner.token_to_id(&token.content) != Some(*id) {
                let reason = format!("token {:?} cannot have the id {id}", token.content);
                return Err(wrong(reason));
            }
        }
        let id = |name: &str| {
            let id = inner.token_to_id(name).and_then(|id| i32::try_from(id).ok());
            id.ok_or_else(|| wrong(format!("it has no token {name:?}")))
        };
        let (start, end, pad) = (id(&names.start)?, id(&names.end)?, id(&names.pad)?);
        Ok(Self { start, end, pad, max_length, vectors: HashMap::new(), inner })
    }

    /// Tokens of a prompt with those that begin and end it: 77 in every published CLIP.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The token that begins a prompt.
    pub fn start(&self) -> i32 {
        self.start
    }

    /// The token that ends a prompt.
    pub fn end(&self) -> i32 {
        self.end
    }

    /// The token that fills up a prompt: the one that ends it, or `!` in Stable Diffusion 2.x.
    pub fn pad(&self) -> i32 {
        self.pad
    }

    /// How many tokens there are; ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of the token that is written so in the vocabulary, such as `cat</w>`.
    pub fn id(&self, token: &str) -> Option<i32> {
        i32::try_from(self.inner.token_to_id(token)?).ok()
    }

    /// The tokens of a text, without those that begin and end a prompt. [`TokenizerError::Text`] where it is longer than
    /// a mebibyte.
    pub fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizerError> {
        if text.len() > MAX_TEXT {
            let reason = format!("has {} bytes, and at most {MAX_TEXT} are read", text.len());
            return Err(TokenizerError::Text(reason));
        }
        let unreadable = |error: tokenizers::Error| TokenizerError::Text(format!("cannot be read: {error}"));
        let encoding = self.inner.encode(text, false).map_err(unreadable)?;
        let mut tokens = Vec::with_capacity(encoding.len());
        for (&id, &(start, _)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let id = i32::try_from(id).map_err(|error| TokenizerError::Text(error.to_string()))?;
            let ids = self.vectors.get(&id).map_or(std::slice::from_ref(&id), Vec::as_slice);
            let after = (0..ids.len()).rev();
            tokens.extend(ids.iter().zip(after).map(|(&id, rest)| Token { id, start, rest }));
        }
        Ok(tokens)
    }

    /// A prompt as diffusers' pipelines give it to a text encoder: begun, ended, cut or filled up to
    /// [`max_length`](Self::max_length).
    pub fn prompt(&self, text: &str) -> Result<Padded, TokenizerError> {
        let tokens = self.encode(text)?;
        let room = self.max_length.saturating_sub(2);
        let (kept, lost) = tokens.split_at(tokens.len().min(room));
        let cut = lost.first().map(|first| {
            let text = text.split_at(text.floor_char_boundary(first.start)).1;
            Cut { tokens: lost.len(), text: text.to_string() }
        });
        let mut ids = vec![self.start];
        ids.extend(kept.iter().map(|token| token.id));
        ids.push(self.end);
        ids.resize(self.max_length, self.pad);
        Ok(Padded { ids, cut })
    }

    /// Adds a token that is written `name` and stands for so many vectors, as a textual inversion's does, and gives its
    /// ids: the next ones after the vocabulary's. As in diffusers, the ones after the first can also be written alone, as
    /// `name_1` and so on, and the letters' size in prompts does not matter.
    pub fn add_token(&mut self, name: &str, vectors: usize) -> Result<Vec<i32>, TokenizerError> {
        let refused = |reason: String| TokenizerError::Name { name: name.into(), reason };
        let room = self.max_length.saturating_sub(2);
        if vectors == 0 || vectors > room {
            return Err(refused(format!("cannot have {vectors} vectors, only 1 to {room}")));
        }
        if name.trim().is_empty() {
            return Err(refused("holds nothing that could be written".into()));
        }
        let numbered = (1..vectors).map(|i| format!("{name}_{i}"));
        let names: Vec<String> = std::iter::once(name.to_string()).chain(numbered).collect();
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let taken = added.values().map(|token| self.normal(&token.content)).collect::<Result<Vec<_>, _>>()?;
        for name in &names {
            if self.inner.token_to_id(name).is_some() || taken.contains(&self.normal(name)?) {
                return Err(refused(format!("cannot be added: {name:?} is a token already")));
            }
        }
        self.inner
            .add_tokens(names.iter().map(|name| AddedToken::from(name.as_str(), false)))
            .map_err(|error| refused(format!("cannot be added: {error}")))?;
        let ids: Vec<i32> = names.iter().filter_map(|name| self.id(name)).collect();
        if let (Some(&id), true) = (ids.first(), vectors > 1) {
            self.vectors.insert(id, ids.clone());
        }
        Ok(ids)
    }

    /// A text as tokens are looked for in it.
    fn normal(&self, text: &str) -> Result<String, TokenizerError> {
        let mut normal = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            let unreadable = |error| TokenizerError::Text(format!("cannot be read: {error}"));
            normalizer.normalize(&mut normal).map_err(unreadable)?;
        }
        Ok(normal.get().to_string())
    }
}

/// The steps of transformers' `CLIPTokenizer` around a model.
fn pipeline(bpe: BPE, names: &Names) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::new(bpe);
    let regex = |pattern: &str| tokenizers::normalizers::replace::ReplacePattern::Regex(pattern.into());
    let spaces = Replace::new(regex(r"\s+"), " ")?;
    inner.with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))?;
    let pieces = SplitPattern::Regex(PIECES.into());
    let pieces = Split::new(pieces, SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::new(false, true, true);
    inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![pieces.into(), bytes.into()])));
    inner.add_tokens(names.added())?;
    Ok(inner)
}
