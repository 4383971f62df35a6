//! CLIP's vocabulary, which Stable Diffusion 1.x and 2.x share: it follows from its merges, so these alone are kept.
//!
//! `clip-merges.txt.gz` holds the first 48,894 merges of the vocabulary that OpenAI published with CLIP
//! (<https://github.com/openai/CLIP>, Copyright (c) 2021 OpenAI, MIT licence); CLIP uses no more of them.

use std::io::Read;

use flate2::read::GzDecoder;

use super::TokenizerError;

/// The token that begins a prompt.
pub(super) const START: &str = "<|startoftext|>";
/// The token that ends a prompt.
pub(crate) const END: &str = "<|endoftext|>";
/// Tokens of a prompt with those that begin and end it.
pub(super) const LENGTH: usize = 77;
/// What errors call the vocabulary, which is no file.
pub(super) const NAME: &str = "CLIP's vocabulary";

/// Tokens of the vocabulary: twice 256 for bytes, one for each merge, the start and the end.
pub(crate) const TOKENS: usize = 49408;

const PACKED: &[u8] = include_bytes!("clip-merges.txt.gz");

/// The merges as `merges.txt` has them: a line with a version, then two tokens a line.
pub(super) fn merges() -> Result<String, TokenizerError> {
    let mut text = String::new();
    let read = GzDecoder::new(PACKED).read_to_string(&mut text);
    read.map_err(|error| TokenizerError::Io { file: NAME.into(), error })?;
    Ok(text)
}

/// The vocabulary in the order of its ids: 256 units for bytes, the same at a word's end, what the merges make, the tokens
/// that begin and end a prompt.
pub(super) fn tokens(merges: &str) -> Vec<String> {
    let units = units();
    let ends = units.iter().map(|unit| format!("{unit}</w>"));
    let merged = merges.lines().skip(1).map(|line| line.replace(' ', ""));
    let bounds = [START, END].map(String::from);
    units.iter().cloned().chain(ends).chain(merged).chain(bounds).collect()
}

/// The characters that stand for bytes: those that can be seen for themselves, then others for the rest.
fn units() -> Vec<String> {
    let plain = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff);
    plain.chain(0x100..0x144).filter_map(char::from_u32).map(String::from).collect()
}
