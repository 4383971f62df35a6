//! Checkpoints in one file, made of the weights of `tests/fixtures/single_file` as `tests/oracle/single_file.py` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{graph, models, requests};
use graph::{DType, Tensor};
use models::weights::{Files, Folder, open_part};

/// A checkpoint's tensors by their names.
pub type Tensors = BTreeMap<String, Tensor>;

pub fn fixture(case: &str) -> Arc<dyn Files> {
    Arc::new(Folder::new(requests::folder().join("../single_file").join(case)))
}

/// The tensors of a case.
pub fn tensors(case: &str) -> Tensors {
    let files = fixture(case);
    let made_of = files.read("original.json", 1 << 20).unwrap().unwrap();
    let made_of: BTreeMap<String, Vec<String>> = serde_json::from_slice(&made_of).unwrap();
    let parts = ["unet", "vae", "text_encoder"].map(|part| (part, open_part(&files, part).unwrap()));
    let weight = |name: &str| {
        let (part, name) = name.split_once('/').unwrap();
        parts.iter().find(|(other, _)| *other == part).unwrap().1.load(name).unwrap()
    };
    let whole = |(name, of): (String, Vec<String>)| {
        let rows: Vec<Tensor> = of.iter().map(|name| weight(name)).collect();
        let mut shape = rows[0].shape().to_vec();
        shape[0] *= rows.len();
        if name.contains(".mid.attn_1.") && shape.len() == 2 {
            shape.extend([1, 1]);
        }
        let values = rows.iter().flat_map(|rows| rows.to_f32().into_owned()).collect();
        (name, Tensor::f32(shape, values).unwrap())
    };
    made_of.into_iter().map(whole).collect()
}

/// The tensors of a case whose text encoder knows so many tokens, and reads prompts of CLIP's length.
pub fn with_tokens(case: &str, tokens: usize) -> Tensors {
    let mut tensors = tensors(case);
    for (name, tensor) in &mut tensors {
        let rows = match name.rsplit('.').find(|part| *part != "weight") {
            Some("token_embedding") => tokens,
            Some("position_embedding" | "positional_embedding") => 77,
            _ => continue,
        };
        let width = tensor.shape()[1];
        let values = (0..rows * width).map(|i| (i % 101) as f32 / 101.0 - 0.5).collect();
        *tensor = Tensor::f32([rows, width], values).unwrap();
    }
    tensors
}

/// A `.safetensors` file's bytes.
pub fn file(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let dtype = match tensor.dtype() {
            DType::F32 => "F32",
            DType::F16 => "F16",
            other => panic!("no tensor is {other}"),
        };
        let start = data.len();
        data.extend_from_slice(tensor.as_bytes());
        let entry =
            serde_json::json!({"dtype": dtype, "shape": tensor.shape(), "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
