use std::collections::HashMap;

use half::f16;
use kiln_graph::DType;

use super::*;
use crate::clip_text::Config;
use crate::clip_text::tests::{encode, published, tiny};
use crate::tokenizer::tests::{clip, small};
use crate::weights::Memory;

const TABLE: &str = "text_model.embeddings.token_embedding.weight";

/// A file of tensors in f32, each element its place in the file.
fn file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * 4;
        header.insert(
            name.to_string(),
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let header = serde_json::Value::from(header).to_string();
    let values = (0..end / 4).flat_map(|i| (i as f32).to_le_bytes());
    [(header.len() as u64).to_le_bytes().to_vec(), header.into_bytes(), values.collect()].concat()
}

fn open(name: &str, bytes: Vec<u8>, word: Option<&str>) -> Result<TextualInversion, String> {
    let mut files = Memory::new();
    files.insert(name, bytes);
    let files: Arc<dyn Files> = Arc::new(files);
    TextualInversion::open(&files, name, word).map_err(|error| error.to_string())
}

/// An encoder's weights, of which only the table and one other are looked at.
fn encoder(rows: usize, width: usize, dtype: DType) -> WithTokens {
    let table = Tensor::f32([rows, width], vec![0.5; rows * width]).unwrap().cast(dtype);
    let other = Tensor::f32([1], vec![7.0]).unwrap();
    WithTokens::new(Arc::new(HashMap::from([(TABLE.to_string(), table), ("other".to_string(), other)])))
        .unwrap()
}

#[test]
fn both_layouts_and_their_names() {
    let diffusers = open("learned.safetensors", file(&[("<cat-toy>", &[3])]), None).unwrap();
    assert_eq!((diffusers.name(), diffusers.vectors().shape()), ("<cat-toy>", &[1, 3][..]));
    let web_ui = open("in/my-style.safetensors", file(&[("emb_params", &[2, 3])]), None).unwrap();
    assert_eq!((web_ui.name(), web_ui.vectors().shape()), ("my-style", &[2, 3][..]));
    assert_eq!(web_ui.vectors().as_f32().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let named = open("a.safetensors", file(&[("<x>", &[1, 3])]), Some("<y>")).unwrap();
    assert_eq!(named.name(), "<y>");
}

#[test]
fn other_files_are_refused() {
    let two = open("a.safetensors", file(&[("clip_g", &[1, 3]), ("clip_l", &[1, 2])]), None).unwrap_err();
    assert_eq!(two, "a.safetensors: a textual inversion is one tensor or emb_params, and it holds 2");
    assert!(open("a.safetensors", file(&[]), None).unwrap_err().contains("it holds 0"));
    let cube = open("a.safetensors", file(&[("<x>", &[1, 2, 3])]), None).unwrap_err();
    assert_eq!(cube, "a.safetensors: tensor \"<x>\" has shape [1, 2, 3], not that of vectors of one width");
    assert!(open("a.safetensors", file(&[("<x>", &[0, 3])]), None).unwrap_err().contains("shape [0, 3]"));
    assert!(open("a.pt", vec![0x80, 2], None).unwrap_err().contains("pickle"));
}

#[test]
fn words_get_ids_and_rows() {
    let (mut tokenizer, mut weights) = (clip(), encoder(49408, 3, DType::F16));
    assert_eq!(weights.load(TABLE).unwrap().shape(), [49408, 3]);
    let one = open("a.safetensors", file(&[("<one>", &[1, 3])]), None).unwrap();
    let two = open("b.safetensors", file(&[("<two>", &[2, 3])]), None).unwrap();
    assert_eq!(one.add_to(&mut tokenizer, &mut weights).unwrap(), [49408]);
    assert_eq!(two.add_to(&mut tokenizer, &mut weights).unwrap(), [49409, 49410]);
    assert_eq!(weights.shape(TABLE), Some(&[49411, 3][..]));
    let table = weights.load(TABLE).unwrap();
    assert_eq!((table.shape(), table.dtype()), (&[49411, 3][..], DType::F16));
    let values = &table.as_f16().unwrap()[49407 * 3..];
    let wanted = [0.5, 0.5, 0.5, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(f16::from_f32);
    assert_eq!(values, wanted);
    assert_eq!(weights.load("other").unwrap().as_f32(), Some(&[7.0][..]));
    assert_eq!(weights.names(), ["other", TABLE]);
}

#[test]
fn an_encoder_reads_the_added_words() {
    let config = Config { vocab_size: 6, ..tiny() };
    let (width, weights) = (config.hidden_size, published(&config));
    let mut taught = WithTokens::new(Arc::new(weights.clone())).unwrap();
    let mut tokenizer = small(&[]).unwrap();
    let word = open("a.safetensors", file(&[("<x>", &[2, width])]), None).unwrap();
    word.add_to(&mut tokenizer, &mut taught).unwrap();
    let ids: Vec<i32> = tokenizer.encode("ab <x> b").unwrap().iter().map(|token| token.id).collect();
    assert_eq!(ids, [3, 6, 7, 2]);
    let ids = Tensor::i32([1, 4], ids).unwrap();
    // The same table made by hand.
    let rows = [weights[TABLE].to_f32().into_owned(), word.vectors().to_f32().into_owned()].concat();
    let table = Tensor::f32([8, width], rows).unwrap();
    let mut by_hand = weights;
    by_hand.insert(TABLE.into(), table);
    let encoded = encode(&config, &taught, ids.clone());
    assert_eq!(encoded, encode(&config, &by_hand, ids));
    assert_eq!(encoded["last_hidden_state"].len(), 4 * width);
}

#[test]
fn rows_without_a_token_are_replaced() {
    let (mut tokenizer, mut weights) = (clip(), encoder(49410, 3, DType::F32));
    let three = open("a.safetensors", file(&[("<x>", &[3, 3])]), None).unwrap();
    assert_eq!(three.add_to(&mut tokenizer, &mut weights).unwrap(), [49408, 49409, 49410]);
    let table = weights.load(TABLE).unwrap();
    assert_eq!(table.shape(), [49411, 3]);
    assert_eq!(table.as_f32().unwrap()[49407 * 3..49409 * 3], [0.5, 0.5, 0.5, 0.0, 1.0, 2.0]);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let mut tokenizer = clip();
    let word = open("a.safetensors", file(&[("<x>", &[1, 1024])]), None).unwrap();
    let error = word.add_to(&mut tokenizer, &mut encoder(49408, 768, DType::F32)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.safetensors: the vectors of \"<x>\" have 1024 numbers, and those of the text encoder have 768"
    );
    let error = word.add_to(&mut tokenizer, &mut encoder(1000, 1024, DType::F32)).unwrap_err();
    assert!(error.to_string().ends_with("the tokenizer knows 49408 tokens, and the encoder 1000"), "{error}");
    assert_eq!(tokenizer.vocab_size(), 49408);
    let mut weights = encoder(49408, 1024, DType::F32);
    word.add_to(&mut tokenizer, &mut weights).unwrap();
    assert!(
        word.add_to(&mut tokenizer, &mut weights).unwrap_err().to_string().contains("is a token already")
    );
    assert_eq!(weights.rows(), 49409);
}

#[test]
fn weights_without_a_table_are_refused() {
    let none: SharedWeights = Arc::new(HashMap::<String, Tensor>::new());
    assert!(WithTokens::new(none).err().unwrap().to_string().contains("token_embedding.weight\" is missing"));
    let flat = HashMap::from([(TABLE.to_string(), Tensor::f32([2], vec![0.0; 2]).unwrap())]);
    assert!(WithTokens::new(Arc::new(flat)).err().unwrap().to_string().contains("has shape [2]"));
}
