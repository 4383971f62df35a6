//! Reading configurations: transformers', and those of minGPT as taming-transformers has it.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::Config;
use crate::Error;
use crate::config::Config as Reader;

impl Config {
    /// Reads transformers' `GPT2Config`, or minGPT's sizes (`block_size`, `n_layer` ...), alone or within the configuration of a
    /// model of two stages. What is left out is at its writer's default.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let stages = json.get("model").unwrap_or(json);
        let stages = stages.get("params").unwrap_or(stages);
        let json = stages.get("transformer_config").unwrap_or(json);
        let reader = Reader(json.get("params").unwrap_or(json));
        if reader.size("block_size")?.is_some() { mingpt(reader) } else { gpt2(reader) }
    }
}

fn gpt2(reader: Reader<'_>) -> Result<Config, Error> {
    if let Some(other) = reader.str("model_type")?.filter(|&kind| kind != "gpt2") {
        return Err(Error::Config(format!("a {other} is no GPT-2")));
    }
    if reader.flag("add_cross_attention")? == Some(true) {
        return Err(Error::Config("it attends to something else too, which Kiln's GPT-2 does not".into()));
    }
    let default = Config::gpt2();
    let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
    let flag = |key: &str, default: bool| Ok::<_, Error>(reader.flag(key)?.unwrap_or(default));
    let n_embd = size("n_embd", default.n_embd)?;
    Ok(Config {
        vocab_size: size("vocab_size", default.vocab_size)?,
        n_positions: size("n_positions", default.n_positions)?,
        n_embd,
        n_layer: size("n_layer", default.n_layer)?,
        n_head: size("n_head", default.n_head)?,
        n_inner: size("n_inner", 4 * n_embd)?,
        activation_function: reader.activation("activation_function")?.unwrap_or(default.activation_function),
        layer_norm_epsilon: reader.float("layer_norm_epsilon")?.unwrap_or(default.layer_norm_epsilon),
        scale_attn_weights: flag("scale_attn_weights", true)?,
        scale_attn_by_inverse_layer_idx: flag("scale_attn_by_inverse_layer_idx", false)?,
        tie_word_embeddings: flag("tie_word_embeddings", true)?,
    })
}

fn mingpt(reader: Reader<'_>) -> Result<Config, Error> {
    if let Some(seen) = reader.size("n_unmasked")?.filter(|&count| count > 0) {
        return Err(Error::Config(format!(
            "its first {seen} tokens see those behind them (n_unmasked), which Kiln does not compute"
        )));
    }
    // The defaults of taming-transformers' GPT.
    let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
    let vocab_size =
        reader.size("vocab_size")?.ok_or_else(|| Error::Config("it has no vocab_size".into()))?;
    let n_embd = size("n_embd", 256)?;
    Ok(Config {
        vocab_size,
        n_positions: size("block_size", 0)?,
        n_embd,
        n_layer: size("n_layer", 12)?,
        n_head: size("n_head", 8)?,
        n_inner: 4 * n_embd,
        activation_function: Unary::Gelu,
        tie_word_embeddings: false,
        ..Config::vqgan()
    })
}
