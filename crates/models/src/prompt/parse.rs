//! From a prompt to texts with weights.

use super::PromptError;

/// Most brackets that may be open at once: 1.1 to this power still fits in f32, and reading takes no longer than this
/// many times the prompt.
pub(super) const MAX_DEPTH: usize = 255;
/// Longest prompt, in bytes.
const MAX_PROMPT: usize = 1 << 20;
/// What a bracket does.
const EMPHASIS: f64 = 1.1;
/// What begins a new chunk.
const BREAK: &str = "BREAK";
/// Signs that mean something.
const SIGNS: [char; 6] = ['\\', '(', ')', '[', ']', ':'];

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// Text and its weight.
    Text(String, f64),
    /// A new chunk.
    Break,
}

/// The parts of a prompt. Neighbours of one weight are one part, so that a word does not end where brackets do that
/// change nothing.
pub(super) fn parse(prompt: &str) -> Result<Vec<Part>, PromptError> {
    if prompt.len() > MAX_PROMPT {
        let reason = format!("has {} bytes, and at most {MAX_PROMPT} are read", prompt.len());
        return Err(crate::TokenizerError::Text(reason).into());
    }
    let mut parser = Parser::default();
    let mut rest = prompt;
    while let Some(sign) = rest.chars().next() {
        let (piece, after) = rest.split_at(rest.find(SIGNS).unwrap_or(rest.len()));
        if !piece.is_empty() {
            parser.words(piece);
            rest = after;
            continue;
        }
        rest = rest.split_at(sign.len_utf8()).1;
        match sign {
            '\\' => match rest.chars().next().filter(|next| SIGNS[..5].contains(next)) {
                Some(next) => {
                    parser.text(&next.to_string());
                    rest = rest.split_at(next.len_utf8()).1;
                }
                // Before anything else a backslash is no text, but may stand between texts with a weight of its own.
                None => parser.text(""),
            },
            '(' => parser.open(Bracket::Round)?,
            '[' => parser.open(Bracket::Square)?,
            ')' => {
                if !parser.close(Bracket::Round, EMPHASIS) {
                    parser.text(")");
                }
            }
            ']' => {
                if !parser.close(Bracket::Square, 1.0 / EMPHASIS) {
                    parser.text("]");
                }
            }
            _ => match weight(rest) {
                Some((number, after)) if !parser.round.is_empty() => {
                    let weight = number.parse().map_err(|_| PromptError::Weight(number.into()))?;
                    parser.close(Bracket::Round, weight);
                    rest = after;
                }
                _ => parser.text(":"),
            },
        }
    }
    parser.finish()
}

/// The number of `1.3)` and what comes after the bracket.
fn weight(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let after = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if after.len() == unsigned.len() {
        return None;
    }
    let number = text.strip_suffix(after)?;
    Some((number, after.trim_start().strip_prefix(')')?))
}

#[derive(Clone, Copy)]
enum Bracket {
    Round,
    Square,
}

#[derive(Default)]
struct Parser {
    parts: Vec<Part>,
    /// Where open brackets are: the number of parts before them.
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Parser {
    fn text(&mut self, text: &str) {
        self.parts.push(Part::Text(text.into(), 1.0));
    }

    /// Text between signs, in which there may be `BREAK`.
    fn words(&mut self, text: &str) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut done = 0;
        for (at, _) in text.match_indices(BREAK) {
            let (before, after) = (text.get(..at), text.get(at + BREAK.len()..));
            let (Some(before), Some(after)) = (before, after) else { continue };
            if before.ends_with(is_word) || after.starts_with(is_word) {
                continue;
            }
            self.text(text.get(done..at).unwrap_or_default().trim_end());
            self.parts.push(Part::Break);
            done = text.len() - after.trim_start().len();
        }
        self.text(text.get(done..).unwrap_or_default());
    }

    fn brackets(&mut self, kind: Bracket) -> &mut Vec<usize> {
        match kind {
            Bracket::Round => &mut self.round,
            Bracket::Square => &mut self.square,
        }
    }

    fn open(&mut self, kind: Bracket) -> Result<(), PromptError> {
        if self.round.len() + self.square.len() == MAX_DEPTH {
            return Err(PromptError::Depth);
        }
        let at = self.parts.len();
        self.brackets(kind).push(at);
        Ok(())
    }

    /// Weighs what came since the last open bracket, where there is one.
    fn close(&mut self, kind: Bracket, factor: f64) -> bool {
        let Some(start) = self.brackets(kind).pop() else { return false };
        for part in self.parts.iter_mut().skip(start) {
            if let Part::Text(_, weight) = part {
                *weight *= factor;
            }
        }
        true
    }

    fn finish(mut self) -> Result<Vec<Part>, PromptError> {
        while self.close(Bracket::Round, EMPHASIS) {}
        while self.close(Bracket::Square, 1.0 / EMPHASIS) {}
        let mut merged: Vec<Part> = Vec::new();
        for part in self.parts {
            match (merged.last_mut(), part) {
                (Some(Part::Text(text, weight)), Part::Text(more, same)) if *weight == same => {
                    text.push_str(&more);
                }
                (_, Part::Text(_, weight)) if !(weight as f32).is_finite() => {
                    return Err(PromptError::Weight(weight.to_string()));
                }
                (_, part) => merged.push(part),
            }
        }
        merged.retain(|part| !matches!(part, Part::Text(text, _) if text.is_empty()));
        Ok(merged)
    }
}
