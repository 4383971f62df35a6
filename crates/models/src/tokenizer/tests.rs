use serde_json::{Value as Json, json};

use super::*;
use crate::weights::Memory;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/fixtures/tokenizer/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// CLIP's merges as a file holds them.
fn merges() -> String {
    clip::merges().unwrap()
}

/// The vocabulary that follows from merges.
fn vocabulary(merges: &str) -> Json {
    let tokens = clip::tokens(merges).into_iter().enumerate();
    tokens.map(|(id, token)| (token, json!(id))).collect::<serde_json::Map<_, _>>().into()
}

fn folder(files: &[(&str, Vec<u8>)]) -> Arc<dyn Files> {
    let mut memory = Memory::new();
    for (name, bytes) in files {
        memory.insert(*name, bytes.clone());
    }
    Arc::new(memory)
}

/// CLIP's vocabulary, with other files beside it.
fn clip_with(files: &Json) -> Tokenizer {
    let merges = merges();
    let vocab = vocabulary(&merges).to_string();
    let mut all = vec![("vocab.json", vocab.into_bytes()), ("merges.txt", merges.into_bytes())];
    let others = files.as_object().unwrap().iter();
    all.extend(others.map(|(name, content)| (name.as_str(), content.to_string().into_bytes())));
    Tokenizer::from_files(&folder(&all)).unwrap()
}

/// CLIP's tokenizer without other files, which pads as Stable Diffusion 1.x does.
pub(crate) fn clip() -> Tokenizer {
    clip_with(&json!({}))
}

/// What transformers makes of the same texts with the files of several models beside the vocabulary.
#[derive(serde::Deserialize)]
struct Layouts {
    texts: Vec<String>,
    folders: HashMap<String, Layout>,
}

#[derive(serde::Deserialize)]
struct Layout {
    files: Json,
    ids: Vec<Vec<i32>>,
}

fn layouts() -> Layouts {
    serde_json::from_slice(&fixture("folders.json")).unwrap()
}

fn ids(tokens: &[Token]) -> Vec<i32> {
    tokens.iter().map(|token| token.id).collect()
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<i32>,
}

#[test]
fn a_thousand_prompts_as_transformers_reads_them() {
    let cases: Vec<Case> = serde_json::from_slice(&fixture("prompts.json")).unwrap();
    assert_eq!(cases.len(), 1000);
    let clip = clip_with(&layouts().folders["sd1"].files);
    let differ = |case: &&Case| ids(&clip.encode(&case.text).unwrap()) != case.ids;
    let wrong: Vec<&str> = cases.iter().filter(differ).map(|case| case.text.as_str()).collect();
    assert!(wrong.is_empty(), "{} prompts differ, such as {:?}", wrong.len(), wrong.first());
}

#[test]
fn clips_own_vocabulary_is_that_of_the_folders() {
    let cases: Vec<Case> = serde_json::from_slice(&fixture("prompts.json")).unwrap();
    let Layouts { texts, folders } = layouts();
    for (name, pad) in [("sd1", "<|endoftext|>"), ("sd2", "!")] {
        let Layout { files, ids: padded } = &folders[name];
        let (own, read) = (Tokenizer::clip(pad).unwrap(), clip_with(files));
        let numbers =
            |one: &Tokenizer| (one.start(), one.end(), one.pad(), one.max_length(), one.vocab_size());
        assert_eq!(numbers(&own), numbers(&read));
        assert_eq!(own.vocab_size(), clip::TOKENS);
        for (text, wanted) in texts.iter().zip(padded) {
            assert_eq!(&own.prompt(text).unwrap().ids, wanted, "{name}: {text:?}");
        }
        for Case { text, ids: wanted } in &cases {
            let tokens = own.encode(text).unwrap();
            assert_eq!(tokens, read.encode(text).unwrap(), "{name}: {text:?}");
            // With another token to fill up, some texts that hold it or the end token are others.
            assert!(ids(&tokens) == *wanted || name == "sd2", "{name}: {text:?}");
        }
    }
    let error = Tokenizer::clip("no token").unwrap_err();
    assert_eq!(error.to_string(), "CLIP's vocabulary: it has no token \"no token\"");
}

#[test]
fn folders_of_stable_diffusion_1_2_and_xl() {
    let Layouts { texts, folders } = layouts();
    assert_eq!(folders.len(), 4);
    for (name, Layout { files, ids }) in folders {
        let tokenizer = clip_with(&files);
        assert_eq!(ids.len(), texts.len());
        for (text, wanted) in texts.iter().zip(ids) {
            assert_eq!(tokenizer.prompt(text).unwrap().ids, wanted, "{name}: {text:?}");
        }
    }
}

#[test]
fn one_file_as_two() {
    let merges = merges();
    let lines: Vec<&str> = merges.lines().skip(1).collect();
    let pairs: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    for merges in [json!(lines), json!(pairs)] {
        let model = json!({"type": "BPE", "end_of_word_suffix": "</w>", "unk_token": "<|endoftext|>",
            "vocab": vocabulary(&self::merges()), "merges": merges});
        let added = json!([{"id": 49408, "content": "<new>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": false}]);
        let file = json!({"version": "1.0", "model": model, "added_tokens": added}).to_string();
        let one = Tokenizer::from_files(&folder(&[("tokenizer.json", file.into_bytes())])).unwrap();
        let text = "A photo of a cat's naïve 😀 <new>!";
        let mut wanted = ids(&clip().encode("A photo of a cat's naïve 😀").unwrap());
        wanted.extend([49408, 256]);
        assert_eq!(ids(&one.encode(text).unwrap()), wanted);
        assert_eq!(one.vocab_size(), 49409);
    }
}

#[test]
fn tokens_know_where_they_begin() {
    let text = "  Ünï  cat😀 É";
    let tokens = clip().encode(text).unwrap();
    let starts: Vec<&str> = tokens.iter().map(|token| &text[token.start..]).collect();
    assert_eq!((starts[0], *starts.last().unwrap()), (&text[2..], "É"));
    assert!(starts.iter().any(|rest| rest.starts_with("cat")));
}

#[test]
fn texts_of_any_kind_are_read() {
    let clip = clip();
    let long = format!("{} fin", "a cat, ".repeat(1500));
    let padded = clip.prompt(&long).unwrap();
    assert_eq!(padded.ids.len(), 77);
    let cut = padded.cut.unwrap();
    assert_eq!(cut.tokens, 1500 * 3 + 1 - 75);
    assert!(cut.text.starts_with("a cat, ") && cut.text.ends_with(" fin"), "{:?}", &cut.text[..20]);
    for text in ["", " \n\t ", "\0\u{1}\u{7f}", "\u{feff}\u{200b}", "\u{10ffff}"] {
        let padded = clip.prompt(text).unwrap();
        assert_eq!((padded.ids[0], padded.ids[76], padded.cut), (49406, 49407, None));
    }
    // Cut within an emoji's bytes: its whole is told.
    let padded = clip.prompt(&format!("{}🐈\u{200d}⬛", "cat ".repeat(74))).unwrap();
    assert!(padded.cut.unwrap().text.starts_with(['🐈', '\u{200d}']));
    let error = clip.encode(&"a".repeat((1 << 20) + 1)).unwrap_err();
    assert_eq!(error.to_string(), "the text has 1048577 bytes, and at most 1048576 are read");
}

#[test]
fn added_tokens_follow_the_vocabulary() {
    let mut clip = clip();
    let plain = ids(&clip.encode("a cat <cat-toy>").unwrap());
    assert_eq!(clip.add_token("<cat-toy>", 1).unwrap(), [49408]);
    assert_eq!(clip.add_token("<Style>", 3).unwrap(), [49409, 49410, 49411]);
    assert_eq!(clip.vocab_size(), 49412);
    let read = |text: &str| ids(&clip.encode(text).unwrap());
    assert_eq!(read("a cat <CAT-toy>"), [&plain[..2], &[49408]].concat());
    assert_eq!(read("<style>, <style>_2"), [49409, 49410, 49411, 267, 49411]);
    let rest: Vec<usize> = clip.encode("a <style>").unwrap().iter().map(|token| token.rest).collect();
    assert_eq!(rest, [0, 2, 1, 0]);
}

#[test]
fn tokens_that_cannot_be_added_change_nothing() {
    let mut clip = clip();
    clip.add_token("<a>_1", 1).unwrap();
    let mut refused = |name: &str, vectors| clip.add_token(name, vectors).unwrap_err().to_string();
    assert_eq!(refused("cat", 1), "the token \"cat\" cannot be added: \"cat\" is a token already");
    assert!(refused("<a>", 2).contains("\"<a>_1\" is a token already"));
    assert!(refused("<A>_1", 1).contains("is a token already"));
    assert!(refused("<|endoftext|>", 1).contains("is a token already"));
    assert!(refused(" ", 1).contains("holds nothing"));
    assert!(refused("<b>", 0).contains("only 1 to 75"));
    assert!(refused("<b>", 76).contains("only 1 to 75"));
    assert_eq!(clip.vocab_size(), 49409);
    assert_eq!(clip.add_token("<a>", 1).unwrap(), [49409]);
}

/// The smallest vocabulary: two letters, one merge, the tokens with a task.
const VOCAB: &str = r#"{"a":0,"b":1,"b</w>":2,"ab</w>":3,"<|startoftext|>":4,"<|endoftext|>":5}"#;
const MERGES: &str = "#version: 0.2\na b</w>\n";

/// The smallest tokenizer, with these files beside its own or in their place.
pub(crate) fn small(files: &[(&str, &str)]) -> Result<Tokenizer, String> {
    let mut all = vec![("vocab.json", VOCAB), ("merges.txt", MERGES)];
    all.retain(|(name, _)| files.iter().all(|(other, _)| other != name));
    all.extend(files);
    let all: Vec<_> = all.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect();
    Tokenizer::from_files(&folder(&all)).map_err(|error| error.to_string())
}

#[test]
fn small_vocabularies_and_their_settings() {
    let tokenizer = small(&[]).unwrap();
    // What is not in the vocabulary is its unknown token.
    assert_eq!(ids(&tokenizer.encode("ab b z").unwrap()), [3, 2, 5]);
    assert_eq!((tokenizer.start(), tokenizer.end(), tokenizer.pad(), tokenizer.max_length()), (4, 5, 5, 77));
    let config = r#"{"model_max_length": 5, "pad_token": {"content": "a"}}"#;
    let tokenizer = small(&[("tokenizer_config.json", config)]).unwrap();
    assert_eq!(tokenizer.prompt("b").unwrap().ids, [4, 2, 5, 0, 0]);
    let config = r#"{"model_max_length": 1000000000000000019884624838656}"#;
    assert_eq!(small(&[("tokenizer_config.json", config)]).unwrap().max_length(), 77);
    let tokenizer = small(&[("added_tokens.json", r#"{"<x>": 6, "<y>": 7}"#)]).unwrap();
    assert_eq!(ids(&tokenizer.encode("ab <y><x>").unwrap()), [3, 7, 6]);
    let without = r#"{"a":0,"b":1,"b</w>":2,"ab</w>":3}"#;
    let tokenizer = small(&[("vocab.json", without)]).unwrap();
    assert_eq!((tokenizer.start(), tokenizer.end(), tokenizer.vocab_size()), (4, 5, 6));
}

#[test]
fn broken_folders_are_refused_in_a_sentence() {
    let whole = |model: &str| format!(r#"{{"model": {model}}}"#);
    let cases: [(&str, &str, &str); 18] = [
        ("vocab.json", "{", "vocab.json: it cannot be read"),
        ("vocab.json", "[1]", "vocab.json: it cannot be read"),
        ("vocab.json", r#"{"a":-1}"#, "vocab.json: it cannot be read"),
        ("vocab.json", r#"{"a":0,"b":0}"#, "two tokens have the id 0"),
        (
            "vocab.json",
            r#"{"a":0,"b":4294967295}"#,
            "token \"b\" has the id 4294967295, and there are 2 tokens",
        ),
        ("vocab.json", "{}", "merge 1 needs \"a\", which is not in the vocabulary"),
        ("merges.txt", "a b</w>\nab", "merges.txt: merge 2 is no pair of tokens"),
        ("merges.txt", "a b</w> c", "merge 1 is no pair"),
        ("merges.txt", "b a", "merge 1 needs \"ba\""),
        ("tokenizer.json", "{}", "not as CLIP's BPE by \"</w>\""),
        ("tokenizer.json", &whole(r#"{"type": "Unigram", "vocab": []}"#), "its Unigram model"),
        (
            "tokenizer.json",
            &whole(r#"{"end_of_word_suffix": "</w>", "vocab": {}}"#),
            "missing field `merges`",
        ),
        ("tokenizer_config.json", r#"{"model_max_length": 2}"#, "model_max_length is 2, not a number from 3"),
        ("tokenizer_config.json", r#"{"model_max_length": "x"}"#, "model_max_length is \"x\""),
        ("tokenizer_config.json", r#"{"pad_token": 3}"#, "tokenizer_config.json: pad_token cannot be read"),
        ("special_tokens_map.json", r#"{"pad_token": ""}"#, "special_tokens_map.json: pad_token is empty"),
        ("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": {}}}"#, "added_tokens_decoder cannot be"),
        ("added_tokens.json", r#"{"<x>": 9}"#, "token \"<x>\" cannot have the id 9"),
    ];
    for (name, text, reason) in cases {
        let error = small(&[(name, text)]).unwrap_err();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    let only =
        |name: &str| Tokenizer::from_files(&folder(&[(name, b"{}".to_vec())])).unwrap_err().to_string();
    assert!(only("vocab.json").contains("neither tokenizer.json nor both vocab.json and merges.txt"));
    let binary = folder(&[("vocab.json", VOCAB.into()), ("merges.txt", vec![0xff, 0xfe])]);
    assert!(Tokenizer::from_files(&binary).unwrap_err().to_string().contains("merges.txt: it is no text"));
    let large = folder(&[("tokenizer.json", vec![b' '; (64 << 20) + 1])]);
    assert!(Tokenizer::from_files(&large).unwrap_err().to_string().contains("67108865 bytes"));
}
