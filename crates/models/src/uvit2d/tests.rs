use std::collections::HashMap;

use kiln_graph::Tensor;
use serde_json::{Value as Json, json};

use super::*;

/// A U-ViT of one layer and one block a stage.
fn tiny() -> Json {
    json!({
        "_class_name": "UVit2DModel", "hidden_size": 8, "cond_embed_dim": 4, "micro_cond_encode_dim": 4,
        "micro_cond_embed_dim": 20, "encoder_hidden_size": 6, "vocab_size": 12, "codebook_size": 9, "in_channels": 4,
        "block_out_channels": 6, "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 10, "sample_size": 4,
    })
}

fn with(key: &str, value: Json) -> Result<Config, Error> {
    let mut json = tiny();
    json[key] = value;
    Config::from_json(&json)?.checked()
}

/// Zeros for every weight of the model.
fn weights(config: &Config) -> HashMap<String, Tensor> {
    let model = UVit2d { config: config.clone() };
    let graph = model.graph(Shape { batch: 1, size: [2; 2], tokens: 1 }, &Taps::none()).unwrap();
    graph.weights().map(|(name, value)| (name.to_string(), Tensor::zeros(graph.desc(value)))).collect()
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    for (name, parameters) in [("amused-256", 603_537_664), ("amused-512", 608_257_792)] {
        let model = UVit2d { config: Config::named(name).unwrap().checked().unwrap() };
        let graph = model.graph(Shape { batch: 1, size: [2; 2], tokens: 77 }, &Taps::none()).unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!(sum, parameters, "{name}");
    }
    assert_eq!(Config::named("muse"), None);
    assert_eq!(Config { sample_size: 16, ..Config::from_json(&json!({})).unwrap() }, Config::amused_256());
}

#[test]
fn weights_tell_more_than_the_configuration() {
    let tiny = Config::from_json(&tiny()).unwrap();
    let weights = weights(&tiny);
    let wrong = Config { sample_size: 4, block_num_heads: 2, num_attention_heads: 2, ..Config::amused_512() };
    let wrong = Config { micro_cond_encode_dim: 4, micro_cond_embed_dim: 20, ..wrong };
    assert_eq!(UVit2d::new(wrong, &weights).unwrap().config(), &tiny);
}

#[test]
fn what_makes_no_model_is_refused() {
    assert!(with("hidden_size", json!(8)).is_ok());
    for (key, value, reason) in [
        ("_class_name", json!("UNet2DModel"), "no UVit2DModel"),
        ("num_attention_heads", json!(3), "3 attention heads"),
        ("block_num_heads", json!(0), "0 attention heads"),
        ("micro_cond_embed_dim", json!(18), "no multiple"),
        ("micro_cond_encode_dim", json!(0), "no multiple"),
        ("codebook_size", json!(13), "larger than a vocabulary"),
        ("in_channels", json!(0), "is 0"),
        ("downsample", json!(true), "differ"),
        ("num_hidden_layers", json!(100_000), "more than"),
    ] {
        let error = with(key, value).unwrap_err().to_string();
        assert!(error.contains(reason), "{key}: {error}");
    }
}

#[test]
fn codes_that_are_halved_are_even() {
    let config = Config { downsample: true, upsample: true, ..Config::from_json(&tiny()).unwrap() };
    let model = UVit2d::new(config.clone(), &weights(&config)).unwrap();
    let graph = |size| model.graph(Shape { batch: 1, size, tokens: 2 }, &Taps::none());
    assert!(graph([4, 2]).is_ok());
    for size in [[4, 3], [0, 2]] {
        assert!(matches!(graph(size), Err(Error::Input(_))));
    }
    let mut more = weights(&config);
    more.remove("up_block.upsample.conv.weight");
    assert!(UVit2d::new(config, &more).is_err());
}
