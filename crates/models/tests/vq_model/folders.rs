//! Folders of tiny autoencoders with a codebook, made of `tests/fixtures/vq_model`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{graph, models};
use graph::Tensor;
use models::weights::{self, Files, Folder};

/// What the paper's code would have beside the weights of the fixture `original`, were it the first stage of a model.
const TWO_STAGES: &str = "model:
  base_learning_rate: 4.5e-06
  target: taming.models.cond_transformer.Net2NetTransformer
  params:
    cond_stage_key: depth
    transformer_config:
      target: taming.modules.transformer.mingpt.GPT
      params: {vocab_size: 37, block_size: 512}
    first_stage_config:
      target: taming.models.vqgan.EMAVQ
      params:
        embed_dim: 5
        n_embed: 37
        num_groups: 4
        ddconfig:
          double_z: False  # a codebook takes all channels
          z_channels: 6
          resolution: 32
          in_channels: 3
          out_ch: 3
          ch: 8
          ch_mult: [ 1,2,3 ]
          num_res_blocks: 1
          attn_resolutions:
          - 8
          dropout: 0.0
        lossconfig:
          target: taming.modules.losses.DummyLoss
";

pub fn fixture(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vq_model").join(case)
}

/// Writes the fixture `original` as the paper's code has a model of two stages, whose second is of a single weight.
pub fn write_two_stages(folder: &Path, prefix: &str) {
    let files: Arc<dyn Files> = Arc::new(Folder::new(fixture("original")));
    let weights = weights::open(&files).unwrap();
    let first = |name: String| (format!("{prefix}first_stage_model.{name}"), weights.load(&name).unwrap());
    let mut tensors: Vec<(String, Tensor)> = weights.names().into_iter().map(first).collect();
    tensors.push((format!("{prefix}transformer.head.weight"), Tensor::f32([1, 1], vec![0.0]).unwrap()));
    std::fs::write(folder.join("last.safetensors"), file(&tensors)).unwrap();
    std::fs::write(folder.join("2020-11-13-project.yaml"), TWO_STAGES).unwrap();
    std::fs::write(folder.join("2020-11-13-lightning.yaml"), "lightning: {trainer: {gpus: '0,'}}").unwrap();
}

/// A `.safetensors` file's bytes.
fn file(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend_from_slice(tensor.as_bytes());
        let entry =
            serde_json::json!({"dtype": "F32", "shape": tensor.shape(), "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
