use std::collections::HashMap;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::random::SplitMix64;
use kiln_graph::{Interpreter, Tensor};
use serde_json::json;

use super::*;
use crate::Device;

pub(crate) fn tiny() -> Config {
    Config {
        vocab_size: 11,
        n_positions: 7,
        n_embd: 12,
        n_layer: 3,
        n_head: 3,
        n_inner: 20,
        ..Config::vqgan()
    }
}

/// Numbers in -0.5..0.5 for every weight of the model, by minGPT's names.
pub(crate) fn mingpt(config: &Config) -> HashMap<String, Tensor> {
    let named = HashMap::from([("tok_emb.weight".to_string(), Tensor::scalar(0.0))]);
    let gpt = Gpt { config: config.clone(), names: Names::of(&named) };
    let graph = gpt.graph(1, 1, &Taps::none()).unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let (desc, random) = (graph.desc(value), SplitMix64::named(name));
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

/// The same weights as GPT-2 has them.
fn gpt2(weights: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let turned = |tensor: &Tensor| {
        let &[rows, columns] = tensor.shape() else { panic!() };
        let picks = (0..rows * columns).map(|i| Some(i % rows * columns + i / rows));
        tensor.pick([columns, rows], picks).unwrap()
    };
    let mut other = HashMap::new();
    for (name, tensor) in weights {
        let renamed = [
            ("tok_emb.", "wte."),
            ("blocks.", "h."),
            (".ln1.", ".ln_1."),
            (".ln2.", ".ln_2."),
            (".attn.proj.", ".attn.c_proj."),
            (".mlp.0.", ".mlp.c_fc."),
            (".mlp.2.", ".mlp.c_proj."),
        ];
        let to = renamed.iter().fold(name.clone(), |name, (from, to)| name.replace(from, to));
        let linear = tensor.shape().len() == 2 && to.starts_with("h.");
        other.insert(to, if linear { turned(tensor) } else { tensor.clone() });
    }
    let places = other.remove("pos_emb").unwrap();
    other.insert("wpe.weight".into(), places.reshape(places.shape()[1..].to_vec()).unwrap());
    let head = other.remove("head.weight").unwrap();
    other.insert("lm_head.weight".into(), head);
    for i in 0.. {
        let mut part = |part: &str, kind: &str| other.remove(&format!("h.{i}.attn.{part}.{kind}"));
        let (Some(q), Some(k), Some(v)) =
            (part("query", "weight"), part("key", "weight"), part("value", "weight"))
        else {
            break;
        };
        let bias: Vec<f32> = ["query", "key", "value"]
            .iter()
            .flat_map(|name| part(name, "bias").unwrap().to_f32().to_vec())
            .collect();
        let width = q.shape()[0];
        let rows = (0..width).flat_map(|row| {
            [&q, &k, &v].map(|part| part.to_f32()[row * width..(row + 1) * width].to_vec()).concat()
        });
        let weight = Tensor::f32([width, 3 * width], rows.collect()).unwrap();
        other.insert(format!("h.{i}.attn.c_attn.weight"), weight);
        other.insert(format!("h.{i}.attn.c_attn.bias"), Tensor::f32([3 * width], bias).unwrap());
    }
    other
}

fn logits(config: &Config, weights: &HashMap<String, Tensor>, tokens: &[&[i32]]) -> Vec<f64> {
    let gpt = Gpt::new(config.clone(), weights).unwrap();
    let graph = gpt.graph(tokens.len(), tokens[0].len(), &Taps::none()).unwrap();
    let ids = Tensor::i32([tokens.len(), tokens[0].len()], tokens.concat()).unwrap();
    Interpreter::new(graph, weights).unwrap().run(&[("input_ids", ids)]).unwrap()[0].to_f64()
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    for (name, parameters) in [("gpt2", 124_439_808), ("vqgan", 304_932_864)] {
        let gpt = Gpt { config: Config::named(name).unwrap(), names: Names::of(&HashMap::new()) };
        let graph = gpt.graph(1, 1, &Taps::none()).unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!(sum, parameters, "{name}");
    }
    assert_eq!(Config::named("gpt3"), None);
}

#[test]
fn both_layouts_mean_the_same() {
    let (config, weights) = (tiny(), mingpt(&tiny()));
    let texts: [&[i32]; 2] = [&[3, 0, 10, 4, 4], &[1, 2, 3, 4, 5]];
    let expected = logits(&config, &weights, &texts);
    let theirs = gpt2(&weights);
    assert!(worst(&logits(&config, &theirs, &texts), &expected) < 1e-6);
    let prefixed = |prefix: &str, weights: &HashMap<String, Tensor>| {
        let head = |name: &String| name == "lm_head.weight";
        let name = |name: &String| if head(name) { name.clone() } else { format!("{prefix}{name}") };
        weights.iter().map(|(key, tensor)| (name(key), tensor.clone())).collect::<HashMap<_, _>>()
    };
    assert!(worst(&logits(&config, &prefixed("transformer.", &theirs), &texts), &expected) < 1e-6);
    let mut both = prefixed("transformer.", &weights);
    both.insert("first_stage_model.quant_conv.bias".into(), Tensor::scalar(0.0));
    both.insert("transformer.blocks.0.attn.mask".into(), Tensor::scalar(0.0));
    assert!(worst(&logits(&config, &both, &texts), &expected) < 1e-6);
}

#[test]
fn sizes_are_those_of_the_weights() {
    let weights = mingpt(&tiny());
    let gpt = Gpt::new(Config { n_head: 3, ..Config::vqgan() }, &weights).unwrap();
    assert_eq!(*gpt.config(), tiny());
    let mut tied = gpt2(&weights);
    tied.remove("lm_head.weight");
    assert!(Gpt::new(tiny(), &tied).unwrap().config().tie_word_embeddings);
    let mut broken = weights.clone();
    broken.remove("blocks.1.attn.key.weight");
    broken.remove("head.weight");
    let error = Gpt::new(tiny(), &broken).unwrap_err().to_string();
    assert!(error.contains("blocks.1.attn.key.weight") && error.contains("head.weight"), "{error}");
}

#[test]
fn steps_and_windows_give_what_whole_texts_give() {
    let (config, weights) = (tiny(), mingpt(&tiny()));
    let texts: [&[i32]; 2] = [&[3, 0, 10, 4, 4, 9, 1], &[1, 2, 3, 4, 5, 6, 7]];
    let whole = logits(&config, &weights, &texts);
    let row = |text: usize, i: usize| &whole[(text * 7 + i) * 11..(text * 7 + i + 1) * 11];
    let gpt = Gpt::new(config, &weights).unwrap();
    let shared: crate::weights::SharedWeights = Arc::new(weights);
    pollster::block_on(async {
        let (f32, quiet) = (Precision::F32, &mut |_, _| {});
        let mut decoder =
            Decoder::new(&Device::Cpu, gpt.clone(), shared.clone(), f32, 2, 7, None, quiet).await.unwrap();
        let mut window =
            Window::new(&Device::Cpu, gpt.clone(), shared.clone(), f32, 2, 7, None, quiet).await.unwrap();
        let mut few = Decoder::new(&Device::Cpu, gpt, shared, f32, 2, 7, Some(3), quiet).await.unwrap();
        // Twice, for what the cache holds of the first time must not count.
        for _ in 0..2 {
            for i in 0..7 {
                let next = [texts[0][i], texts[1][i]];
                let (stepped, largest) = (decoder.push(&next).await.unwrap(), few.push(&next).await.unwrap());
                let begun = texts.map(|text| text[..=i].to_vec());
                let seen = window.successors(&begun).await.unwrap();
                for text in 0..2 {
                    let doubles = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
                    assert!(worst(&doubles(&stepped[text]), row(text, i)) < 1e-5);
                    assert!(worst(&doubles(&seen[text]), row(text, i)) < 1e-5);
                    let mut sorted = stepped[text].clone();
                    sorted.sort_by(|a, b| b.total_cmp(a));
                    let kept = |&logit: &f32| if logit >= sorted[2] { logit } else { f32::NEG_INFINITY };
                    assert_eq!(largest[text], stepped[text].iter().map(kept).collect::<Vec<_>>());
                }
            }
            assert!(decoder.push(&[0, 0]).await.unwrap_err().to_string().contains("full"));
            decoder.restart();
            few.restart();
        }
        assert!(decoder.push(&[0]).await.is_err() && decoder.push(&[0, 11]).await.is_err());
        assert!(window.successors(&[vec![0], vec![0, 1]]).await.is_err());
        assert!(window.successors(&[vec![0; 8], vec![0; 8]]).await.is_err());
    });
}

#[test]
fn configurations_are_read() {
    let read = |json| Config::from_json(&json);
    let theirs = json!({"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "activation_function": "gelu"});
    let config = read(theirs).unwrap();
    assert_eq!((config.n_embd, config.n_inner, config.n_positions), (32, 128, 1024));
    let original =
        json!({"vocab_size": 1024, "block_size": 512, "n_layer": 24, "n_head": 16, "n_embd": 1024});
    assert_eq!(read(original.clone()).unwrap(), Config::vqgan());
    let stages = json!({"model": {"params": {"transformer_config": {"target": "GPT", "params": original}}}});
    assert_eq!(read(stages).unwrap(), Config::vqgan());
    for wrong in [
        json!({"model_type": "bert"}),
        json!({"n_embd": "wide"}),
        json!({"add_cross_attention": true}),
        json!({"block_size": 9}),
        json!({"vocab_size": 9, "block_size": 9, "n_unmasked": 3}),
    ] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(Config { n_head: 5, ..tiny() }.checked().is_err());
    assert!(Config { n_layer: 5000, ..tiny() }.checked().is_err());
}
