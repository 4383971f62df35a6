//! Reading a tokenizer's folder. Files are untrusted: what the `tokenizers` crate takes on trust is checked here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use super::{TokenizerError, clip};
use crate::weights::Files;

/// Largest file.
const MAX_FILE: u64 = 64 << 20;
/// Longest prompt that a configuration may ask for. Python writes 10^30 where there is no limit, which means CLIP's here.
const MAX_LENGTH: f64 = 65536.0;

/// What a folder says.
pub(super) struct Vocabulary {
    /// Ids by token, from 0 on without a gap.
    pub tokens: Vocab,
    /// Pairs that become one token, the most frequent first.
    pub merges: Merges,
    /// The tokens with a task.
    pub names: Names,
    /// Tokens of a whole prompt.
    pub max_length: usize,
}

/// The tokens with a task, and those that were added to the vocabulary.
pub(super) struct Names {
    pub start: String,
    pub end: String,
    pub pad: String,
    pub unknown: String,
    /// Added tokens by the ids that they have to get.
    pub numbered: BTreeMap<u32, AddedToken>,
    /// Tokens with a task that are not among them.
    others: Vec<AddedToken>,
}

impl Names {
    /// Those of Stable Diffusion's CLIP: as its folders describe them, in any letters, and another that fills up prompts.
    fn clip(pad: &str) -> Self {
        let named = |name: &str| AddedToken::from(name, true).normalized(true);
        let others = vec![named(clip::START), named(clip::END), AddedToken::from(pad, true)];
        let [start, end, unknown] = [clip::START, clip::END, clip::END].map(String::from);
        Self { start, end, pad: pad.into(), unknown, numbered: BTreeMap::new(), others }
    }

    /// Has prompts filled up with a token of the vocabulary, whatever the files say.
    pub fn fill_with(&mut self, pad: &str) {
        self.pad = pad.into();
        let known = |token: &AddedToken| token.content == pad;
        if !self.numbered.values().any(known) && !self.others.iter().any(known) {
            self.others.push(AddedToken::from(pad, true));
        }
    }

    /// All of them, in the order in which they are added.
    pub fn added(&self) -> impl Iterator<Item = AddedToken> {
        self.numbered.values().chain(&self.others).cloned()
    }
}

impl Vocabulary {
    pub fn read(files: &Arc<dyn Files>) -> Result<Self, TokenizerError> {
        let folder = Folder(files);
        let Raw { tokens, merges, added } = match folder.json::<Json>(TOKENIZER)? {
            Some(whole) => folder.whole(whole)?,
            None => folder.pair()?,
        };
        let config = folder.json::<Json>(CONFIG)?.unwrap_or_default();
        let max_length = folder.max_length(&config)?;
        let names = folder.names(&config, added)?;
        Ok(Self { tokens, merges, names, max_length })
    }

    /// CLIP's, without a folder.
    pub fn clip(pad: &str) -> Result<Self, TokenizerError> {
        let text = clip::merges()?;
        let tokens: Vocab = (0..).zip(clip::tokens(&text)).map(|(id, token)| (token, id)).collect();
        let merges = text.lines().skip(1).filter_map(split).collect();
        Ok(Self { tokens, merges, names: Names::clip(pad), max_length: clip::LENGTH })
    }
}

const TOKENIZER: &str = "tokenizer.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// What a folder's main files hold.
struct Raw {
    tokens: Vocab,
    merges: Merges,
    added: Vec<Numbered>,
}

/// The part of `tokenizer.json` that differs from CLIP to CLIP; the rest is CLIP's own steps.
#[derive(serde::Deserialize)]
struct Whole {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Numbered>,
}

#[derive(serde::Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

#[derive(serde::Deserialize)]
struct Numbered {
    id: u32,
    #[serde(flatten)]
    token: Described,
}

/// A token as Python's `AddedToken` is written.
#[derive(Clone, serde::Deserialize)]
struct Described {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Described {
    fn token(self, special: bool) -> AddedToken {
        let special = special || self.special;
        AddedToken::from(self.content, special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!special))
    }
}

/// A folder and the errors of what is in it.
struct Folder<'a>(&'a Arc<dyn Files>);

impl Folder<'_> {
    fn wrong(&self, name: &str, reason: String) -> TokenizerError {
        TokenizerError::File { file: self.0.display(name), reason }
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, TokenizerError> {
        let io = |error| TokenizerError::Io { file: self.0.display(name), error };
        self.0.read(name, MAX_FILE).map_err(io)
    }

    /// A JSON file, where there is one of this name.
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, TokenizerError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| self.wrong(name, format!("it cannot be read: {error}")))
    }

    /// `tokenizer.json`.
    fn whole(&self, json: Json) -> Result<Raw, TokenizerError> {
        let model = json.get("model").unwrap_or(&Json::Null);
        let kind = model.get("type").and_then(Json::as_str).unwrap_or("BPE");
        let mark = model.get("end_of_word_suffix").and_then(Json::as_str).unwrap_or_default();
        if kind != "BPE" || mark != "</w>" {
            let reason =
                format!("its {kind} model marks a word's end by {mark:?}, not as CLIP's BPE by \"</w>\"");
            return Err(self.wrong(TOKENIZER, reason));
        }
        let Whole { model, added_tokens } = serde_json::from_value(json)
            .map_err(|error| self.wrong(TOKENIZER, format!("it cannot be read: {error}")))?;
        let tokens = numbered(model.vocab).map_err(|reason| self.wrong(TOKENIZER, reason))?;
        let pair = |merge: Merge| match merge {
            Merge::Pair(first, second) => Some((first, second)),
            Merge::Line(line) => split(&line),
        };
        let merges = checked(model.merges.into_iter().map(pair), &tokens);
        let merges = merges.map_err(|(i, reason)| self.wrong(TOKENIZER, format!("merge {i} {reason}")))?;
        Ok(Raw { tokens, merges, added: added_tokens })
    }

    /// `vocab.json` and `merges.txt`.
    fn pair(&self) -> Result<Raw, TokenizerError> {
        let (Some(vocab), Some(merges)) = (self.json(VOCAB)?, self.bytes(MERGES)?) else {
            let reason = format!("it holds neither {TOKENIZER} nor both {VOCAB} and {MERGES}");
            return Err(self.wrong("", reason));
        };
        let tokens = numbered(vocab).map_err(|reason| self.wrong(VOCAB, reason))?;
        let merges = std::str::from_utf8(&merges)
            .map_err(|error| self.wrong(MERGES, format!("it is no text: {error}")))?;
        let lines = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
        let merges = checked(lines.map(split), &tokens);
        let merges = merges.map_err(|(i, reason)| self.wrong(MERGES, format!("merge {i} {reason}")))?;
        Ok(Raw { tokens, merges, added: Vec::new() })
    }

    fn max_length(&self, config: &Json) -> Result<usize, TokenizerError> {
        let length = match config.get("model_max_length") {
            None | Some(Json::Null) => return Ok(clip::LENGTH),
            Some(length) => length,
        };
        match length.as_f64() {
            Some(length) if length > MAX_LENGTH => Ok(clip::LENGTH),
            Some(length) if length >= 3.0 => Ok(length as usize),
            _ => Err(self.wrong(CONFIG, format!("model_max_length is {length}, not a number from 3 on"))),
        }
    }

    /// The tokens with a task, in the order and with the precedence that transformers gives the files.
    fn names(&self, config: &Json, added: Vec<Numbered>) -> Result<Names, TokenizerError> {
        let listed = config.get("added_tokens_decoder").filter(|listed| !listed.is_null());
        let map = match listed {
            Some(_) => None,
            None => self.json::<Json>(MAP)?,
        };
        const TASKS: [(&str, &str); 4] = [
            ("bos_token", clip::START),
            ("eos_token", clip::END),
            ("unk_token", clip::END),
            ("pad_token", clip::END),
        ];
        let mut tasks = Vec::new();
        for (task, default) in TASKS {
            let mapped = map.as_ref().and_then(|map| map.get(task)).map(|token| (MAP, token));
            let found = mapped.or_else(|| Some((CONFIG, config.get(task)?)));
            tasks.push(match found.filter(|(_, token)| !token.is_null()) {
                None => AddedToken::from(default, true),
                Some((file, token)) => self.token(file, task, token)?,
            });
        }
        let mut numbered = BTreeMap::new();
        if let Some(listed) = listed {
            let listed: BTreeMap<u32, Described> =
                serde_json::from_value(listed.clone()).map_err(|error| {
                    self.wrong(CONFIG, format!("added_tokens_decoder cannot be read: {error}"))
                })?;
            numbered.extend(listed.into_iter().map(|(id, token)| (id, token.token(false))));
        } else {
            let listed: BTreeMap<String, u32> = self.json(ADDED)?.unwrap_or_default();
            for (name, id) in listed {
                let special = tasks.iter().any(|token| token.content == name);
                numbered.insert(id, AddedToken::from(name, special));
            }
            numbered.extend(added.into_iter().map(|Numbered { id, token }| (id, token.token(false))));
        }
        let content = |i: usize| tasks.get(i).map(|token| token.content.clone()).unwrap_or_default();
        let (start, end, unknown, pad) = (content(0), content(1), content(2), content(3));
        let known = |token: &AddedToken| numbered.values().any(|other| other.content == token.content);
        let others = tasks.into_iter().filter(|token| !known(token)).collect();
        Ok(Names { start, end, pad, unknown, numbered, others })
    }

    /// A token with a task, given by its name or described.
    fn token(&self, file: &str, task: &str, json: &Json) -> Result<AddedToken, TokenizerError> {
        let token = match json.as_str() {
            Some(name) => AddedToken::from(name, true),
            None => serde_json::from_value::<Described>(json.clone())
                .map_err(|error| self.wrong(file, format!("{task} cannot be read: {error}")))?
                .token(true),
        };
        match token.content.is_empty() {
            true => Err(self.wrong(file, format!("{task} is empty"))),
            false => Ok(token),
        }
    }
}

fn split(line: &str) -> Option<(String, String)> {
    let (first, second) = line.split_once(' ')?;
    let single = !first.is_empty() && !second.is_empty() && !second.contains(' ');
    single.then(|| (first.to_string(), second.to_string()))
}

/// A vocabulary whose ids are 0, 1, 2 and so on.
fn numbered(tokens: HashMap<String, u32>) -> Result<Vocab, String> {
    let mut seen = vec![false; tokens.len()];
    for (token, &id) in &tokens {
        match usize::try_from(id).ok().and_then(|id| seen.get_mut(id)) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => return Err(format!("two tokens have the id {id}, of which {token:?} is one")),
            None => {
                return Err(format!(
                    "token {token:?} has the id {id}, and there are {} tokens",
                    tokens.len()
                ));
            }
        }
    }
    Ok(tokens.into_iter().collect())
}

/// Merges of which both parts and the whole are tokens. The error says which is not, counted from 1.
fn checked(
    merges: impl Iterator<Item = Option<(String, String)>>,
    tokens: &Vocab,
) -> Result<Merges, (usize, String)> {
    let mut good = Merges::new();
    for (i, merge) in merges.enumerate() {
        let (first, second) = merge.ok_or_else(|| (i + 1, "is no pair of tokens".to_string()))?;
        let whole = format!("{first}{second}");
        if let Some(token) = [&first, &second, &whole].into_iter().find(|token| !tokens.contains_key(*token))
        {
            return Err((i + 1, format!("needs {token:?}, which is not in the vocabulary")));
        }
        good.push((first, second));
    }
    Ok(good)
}
