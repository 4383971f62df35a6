use std::collections::HashMap;

use kiln_graph::Interpreter;
use kiln_graph::ops::Unary;
use kiln_graph::random::SplitMix64;
use serde_json::json;

use super::*;

pub(crate) fn tiny() -> Config {
    Config {
        vocab_size: 30,
        max_position_embeddings: 9,
        hidden_size: 12,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        intermediate_size: 20,
        projection_dim: 7,
        pool: Pool::FirstOf(5),
        ..Config::base()
    }
}

/// Numbers in -0.5..0.5 for every weight of the model, by published names.
pub(crate) fn published(config: &Config) -> HashMap<String, Tensor> {
    let clip = ClipText { config: config.clone(), names: Names::of(&HashMap::new()) };
    let graph = clip.graph(Prompts::new(1, 1), &Taps::none()).unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let (desc, random) = (graph.desc(value), SplitMix64::named(name));
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

fn ids(rows: &[&[i32]]) -> Tensor {
    Tensor::i32([rows.len(), rows[0].len()], rows.concat()).unwrap()
}

fn run(
    clip: &ClipText,
    weights: &dyn Weights,
    prompts: Prompts,
    inputs: &[(&str, Tensor)],
) -> HashMap<String, Vec<f64>> {
    let graph = clip.graph(prompts, &Taps::none()).unwrap();
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let outputs = Interpreter::new(graph, weights).unwrap().run(inputs).unwrap();
    names.into_iter().zip(outputs.iter().map(Tensor::to_f64)).collect()
}

pub(crate) fn encode(config: &Config, weights: &dyn Weights, ids: Tensor) -> HashMap<String, Vec<f64>> {
    let clip = ClipText::new(config.clone(), weights).unwrap();
    let prompts = clip.prompts(&ids).unwrap();
    run(&clip, weights, prompts, &[("input_ids", ids)])
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    let sizes = [("base", 63_428_096), ("large", 123_650_304), ("huge", 354_032_640), ("giant", 694_659_840)];
    for (name, parameters) in sizes {
        let config = Config::named(name).unwrap().checked().unwrap();
        let clip = ClipText { config, names: Names::of(&HashMap::new()) };
        let graph = clip.graph(Prompts::new(1, 77), &Taps::none()).unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!(sum, parameters, "{name}");
    }
}

#[test]
fn a_whole_clip_holds_the_same_encoder() {
    let weights = published(&tiny());
    let prompt = ids(&[&[29, 3, 8, 5]]);
    let expected = encode(&tiny(), &weights, prompt.clone());

    let bare = |name: &String| name.strip_prefix("text_model.").unwrap_or(name).to_string();
    let mut bare: HashMap<String, Tensor> = weights.iter().map(|(k, v)| (bare(k), v.clone())).collect();
    bare.insert("embeddings.position_ids".into(), Tensor::i32([1, 9], (0..9).collect()).unwrap());
    assert_eq!(encode(&tiny(), &bare, prompt.clone()), expected);

    let mut whole = weights;
    for name in ["vision_model.embeddings.class_embedding", "visual_projection.weight", "logit_scale"] {
        whole.insert(name.into(), Tensor::scalar(0.0));
    }
    whole.insert("text_model.embeddings.position_ids".into(), Tensor::scalar(0.0));
    let text = json!({"hidden_size": 512, "num_attention_heads": 3, "eos_token_id": 5});
    let given = json!({"model_type": "clip", "projection_dim": 512, "text_config": text.clone()});
    assert_eq!(encode(&Config::from_json(&given).unwrap(), &whole, prompt.clone()), expected);
    let given =
        json!({"model_type": "clip", "text_config": {"num_attention_heads": 4}, "text_config_dict": text});
    assert_eq!(encode(&Config::from_json(&given).unwrap(), &whole, prompt), expected);
}

#[test]
fn tokens_see_those_before_them_alone() {
    let weights = published(&tiny());
    let states = |prompt: &[i32]| encode(&tiny(), &weights, ids(&[prompt]))["last_hidden_state"].clone();
    let (short, long) = (states(&[29, 3, 8]), states(&[29, 3, 8, 5, 1, 1]));
    assert_eq!(short, long[..short.len()]);
    assert_ne!(states(&[29, 4, 8])[24..], short[24..]);
}

#[test]
fn hidden_tokens_are_not_looked_at() {
    let weights = published(&tiny());
    let clip = ClipText::new(tiny(), &weights).unwrap();
    let masked = |prompt: &[i32]| {
        let mask = Tensor::bool([1, 4], vec![1, 0, 1, 1]).unwrap();
        let prompts = Prompts { masked: true, ..Prompts::new(1, 4) };
        run(&clip, &weights, prompts, &[("input_ids", ids(&[prompt])), ("attention_mask", mask)])
    };
    let (one, other) = (masked(&[29, 3, 8, 5]), masked(&[29, 4, 8, 5]));
    assert_eq!(one["text_embeds"], other["text_embeds"]);
    assert_ne!(one["last_hidden_state"], other["last_hidden_state"]);
    assert_ne!(one["text_embeds"], encode(&tiny(), &weights, ids(&[&[29, 3, 8, 5]]))["text_embeds"]);
}

#[test]
fn the_token_that_ends_a_text_is_pooled() {
    let weights = published(&tiny());
    // Which token of each row, for the largest id and for the first 5; where there is none it is the first.
    let rows: [&[i32]; 3] = [&[28, 3, 5, 5], &[1, 5, 29, 29], &[4, 9, 4, 9]];
    for (pool, places) in [(Pool::LargestId, [0, 2, 1]), (Pool::FirstOf(5), [2, 1, 0])] {
        let outputs = encode(&Config { pool, ..tiny() }, &weights, ids(&rows));
        for (row, place) in places.into_iter().enumerate() {
            let at = (row * 4 + place) * 12;
            assert_eq!(outputs["pooler_output"][row * 12..][..12], outputs["last_hidden_state"][at..][..12]);
        }
    }
    let pool = |end: i32| Config::from_json(&json!({ "eos_token_id": end })).unwrap().pool;
    assert_eq!((pool(2), pool(49407)), (Pool::LargestId, Pool::FirstOf(49407)));
}

#[test]
fn leaving_out_layers_is_having_fewer() {
    let weights = published(&tiny());
    let clip = ClipText::new(tiny(), &weights).unwrap();
    let prompt = ids(&[&[29, 3, 8, 5]]);
    for skip in 1..=3 {
        let prompts = Prompts { clip_skip: skip, ..clip.prompts(&prompt).unwrap() };
        let skipped = run(&clip, &weights, prompts, &[("input_ids", prompt.clone())]);
        assert_eq!(skipped.len(), 1);
        let mut fewer = Config { num_hidden_layers: 3 - skip, ..tiny() };
        fewer = fewer.checked().unwrap();
        let fewer = ClipText { config: fewer, names: clip.names.clone() };
        let fewer = run(&fewer, &weights, Prompts::new(1, 4), &[("input_ids", prompt.clone())]);
        assert_eq!(skipped["last_hidden_state"], fewer["last_hidden_state"], "{skip}");
    }
    let error = clip.graph(Prompts { clip_skip: 4, ..Prompts::new(1, 4) }, &Taps::none()).unwrap_err();
    assert!(error.to_string().contains("4 layers cannot be left out of 3"), "{error}");
}

#[test]
fn sizes_come_from_the_weights_and_misfits_are_listed() {
    let mut weights = published(&tiny());
    let config = Config { num_attention_heads: 3, projection_dim: 0, ..Config::huge() };
    let clip = ClipText::new(config.clone(), &weights).unwrap();
    let fitted = clip.config();
    assert_eq!((fitted.hidden_size, fitted.num_hidden_layers, fitted.intermediate_size), (12, 3, 20));
    assert_eq!((fitted.vocab_size, fitted.max_position_embeddings, fitted.projection_dim), (30, 9, 7));

    weights.remove("text_model.final_layer_norm.bias");
    weights.insert("text_projection.weight".into(), Tensor::f32([2, 5], vec![0.0; 10]).unwrap());
    weights.insert("extra".into(), Tensor::scalar(0.0));
    let error = ClipText::new(config, &weights).unwrap_err().to_string();
    let list = "missing: text_model.final_layer_norm.bias; unused: extra; of another shape: \
                text_projection.weight [2, 5] instead of [2, 12]";
    assert!(error.contains(list), "{error}");

    let json = json!({"architectures": ["CLIPTextModelWithProjection"], "num_attention_heads": 3});
    let without: HashMap<String, Tensor> =
        published(&Config { projection_dim: 0, ..tiny() }).into_iter().collect();
    let error = ClipText::new(Config::from_json(&json).unwrap(), &without).unwrap_err().to_string();
    assert!(error.contains("missing: text_projection.weight"), "{error}");
}

#[test]
fn prompts_that_the_model_cannot_read_are_refused() {
    let weights = published(&tiny());
    let clip = ClipText::new(tiny(), &weights).unwrap();
    let long = Tensor::i32([1, 10], vec![0; 10]).unwrap();
    for (prompt, reason) in [
        (long, "a prompt of 10 tokens is not one of 1 to 9"),
        (Tensor::i32([2, 0], Vec::new()).unwrap(), "a prompt of 0 tokens"),
        (ids(&[&[0, 30]]), "token 30 is none of the 30"),
        (ids(&[&[-1, 0]]), "token -1"),
        (Tensor::i32([3], vec![0; 3]).unwrap(), "not i32 of [batch, length]"),
        (Tensor::f32([1, 3], vec![0.0; 3]).unwrap(), "not i32 of [batch, length]"),
    ] {
        let error = clip.prompts(&prompt).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(clip.graph(Prompts::new(1, 10), &Taps::none()).is_err());
    // Without the question before, a graph takes the nearer end.
    let nearer = run(&clip, &weights, Prompts::new(1, 2), &[("input_ids", ids(&[&[-7, 99]]))]);
    assert_eq!(nearer, encode(&tiny(), &weights, ids(&[&[0, 29]])));
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    for (json, reason) in [
        (json!({"model_type": "clip_vision_model"}), "clip_vision_model"),
        (json!({"hidden_size": -3}), "hidden_size is -3"),
        (json!({"hidden_act": "mystery"}), "mystery"),
        (json!({"eos_token_id": [1, 2]}), "eos_token_id is [1,2]"),
    ] {
        let error = Config::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let weights = published(&tiny());
    let heads = Config { num_attention_heads: 5, ..tiny() };
    assert!(ClipText::new(heads, &weights).unwrap_err().to_string().contains("5 attention heads"));
    let many = Config { num_hidden_layers: 1 << 20, ..tiny() };
    assert!(ClipText::new(many, &HashMap::new()).unwrap_err().to_string().contains("layers are more"));
}

#[test]
fn activations_are_read() {
    let act = |name: &str| Config::from_json(&json!({ "hidden_act": name })).unwrap().hidden_act;
    assert_eq!((act("quick_gelu"), act("gelu")), (Unary::QuickGelu, Unary::Gelu));
}
