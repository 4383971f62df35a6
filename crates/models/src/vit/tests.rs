use std::collections::HashMap;

use kiln_graph::random::SplitMix64;
use kiln_graph::{Interpreter, Tensor};
use serde_json::json;

use super::*;

fn tiny() -> Config {
    Config {
        image_size: [8, 8],
        patch_size: [4, 4],
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 20,
        num_labels: 5,
        ..Config::tiny()
    }
}

/// Numbers in -0.5..0.5 for every weight of the model, in names of the published layout.
fn published(config: &Config) -> HashMap<String, Tensor> {
    let names = Names { layout: Layout::Published("vit.".into()), teacher: config.teacher };
    let vit = Vit { config: config.clone(), names };
    let graph = vit.graph(1, config.image_size, &Taps::none()).unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let (desc, random) = (graph.desc(value), SplitMix64::named(name));
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

fn pixels(image: [usize; 2]) -> Tensor {
    let random = SplitMix64::named("pixels");
    let data = (0..image[0] * image[1] * 3).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
    Tensor::f32([1, image[0], image[1], 3], data).unwrap()
}

fn run(vit: &Vit, weights: &HashMap<String, Tensor>, image: [usize; 2]) -> HashMap<String, Tensor> {
    let graph = vit.graph(1, image, &Taps::none()).unwrap();
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let mut interpreter = Interpreter::new(graph, weights).unwrap();
    let outputs = interpreter.run(&[("pixel_values", pixels(image))]).unwrap();
    names.into_iter().zip(outputs).collect()
}

fn renamed(
    weights: &HashMap<String, Tensor>,
    rename: impl Fn(&str) -> Option<String>,
) -> HashMap<String, Tensor> {
    weights.iter().filter_map(|(name, tensor)| Some((rename(name)?, tensor.clone()))).collect()
}

#[test]
fn presets_have_the_papers_numbers_of_parameters() {
    let sizes = [
        ("tiny", 5_717_416),
        ("small", 22_050_664),
        ("base", 86_567_656),
        ("large", 304_326_632),
        ("huge", 632_045_800),
    ];
    for (name, parameters) in sizes {
        let config = Config::named(name).unwrap();
        let names = Names { layout: Layout::Published(String::new()), teacher: false };
        let vit = Vit { config, names };
        let graph = vit.graph(1, [224, 224], &Taps::none()).unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!(sum, parameters, "{name}");
    }
}

#[test]
fn all_layouts_give_the_same_logits() {
    let config = tiny();
    let weights = published(&config);
    let vit = Vit::new(config.clone(), &weights).unwrap();
    let expected = &run(&vit, &weights, [8, 8])["logits"];

    let memory = renamed(&weights, |name| {
        let name = name.replace("encoder.layer.", "layers.");
        let name = name.replace("attention.attention.query", "attention.q_proj");
        let name = name.replace("attention.attention.key", "attention.k_proj");
        let name = name.replace("attention.attention.value", "attention.v_proj");
        let name = name.replace("attention.output.dense", "attention.o_proj");
        Some(name.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2"))
    });
    let vit = Vit::new(config.clone(), &memory).unwrap();
    assert_eq!(&run(&vit, &memory, [8, 8])["logits"], expected);

    let mut timm = renamed(&weights, |name| {
        if name.contains("attention.attention") {
            return None;
        }
        let name = name.replace("vit.embeddings.position_embeddings", "pos_embed");
        let name = name.replace("vit.embeddings.patch_embeddings.projection", "patch_embed.proj");
        let name = name.replace("vit.embeddings.", "").replace("vit.encoder.layer", "blocks");
        let name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2");
        let name = name.replace("attention.output.dense", "attn.proj");
        let name = name.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2");
        Some(name.replace("vit.layernorm", "norm").replace("classifier", "head"))
    });
    for i in 0..config.num_hidden_layers {
        for leaf in ["weight", "bias"] {
            let part = |part| &weights[&format!("vit.encoder.layer.{i}.attention.attention.{part}.{leaf}")];
            let mut data = Vec::new();
            for name in ["query", "key", "value"] {
                data.extend_from_slice(part(name).as_f32().unwrap());
            }
            let shape = if leaf == "weight" { vec![36, 12] } else { vec![36] };
            timm.insert(format!("blocks.{i}.attn.qkv.{leaf}"), Tensor::f32(shape, data).unwrap());
        }
    }
    let json = json!({"architecture": "vit_tiny_patch16_224", "num_classes": 5, "global_pool": "token",
        "model_args": {"num_heads": 3}});
    let mut timm_config = Config::from_json(&json).unwrap();
    timm_config.layer_norm_eps = config.layer_norm_eps;
    let vit = Vit::new(timm_config, &timm).unwrap();
    assert_eq!(vit.config().num_hidden_layers, 2);
    assert_eq!(vit.config().image_size, [8, 8]);
    let logits = &run(&vit, &timm, [8, 8])["logits"];
    for (a, b) in logits.to_f64().iter().zip(expected.to_f64()) {
        assert!((a - b).abs() < 1e-6, "{logits:?} {expected:?}");
    }
}

#[test]
fn a_teacher_averages_two_heads() {
    let config = Config { distilled: true, teacher: true, ..tiny() };
    let weights = published(&config);
    let vit = Vit::new(config, &weights).unwrap();
    let outputs = run(&vit, &weights, [8, 8]);
    let [logits, class, distillation] =
        ["logits", "cls_logits", "distillation_logits"].map(|name| outputs[name].to_f64());
    for i in 0..5 {
        assert!((logits[i] - (class[i] + distillation[i]) / 2.0).abs() < 1e-6);
    }
    assert_ne!(class, distillation);
}

#[test]
fn other_image_sizes_interpolate_positions() {
    let weights = published(&tiny());
    let vit = Vit::new(tiny(), &weights).unwrap();
    // Pixels beyond the last whole patch are not seen.
    for image in [[12, 8], [8, 20], [16, 16], [15, 7]] {
        assert_eq!(run(&vit, &weights, image)["logits"].shape(), [1, 5]);
    }
    assert!(vit.graph(1, [3, 8], &Taps::none()).unwrap_err().to_string().contains("no patch"));
}

#[test]
fn sizes_come_from_the_weights_and_misfits_are_listed() {
    let mut weights = published(&tiny());
    // The base model's configuration with the tiny model's file.
    let config =
        Config { num_hidden_layers: 2, num_attention_heads: 3, hidden_act: Unary::Gelu, ..Config::base() };
    let vit = Vit::new(config.clone(), &weights).unwrap();
    assert_eq!((vit.config().hidden_size, vit.config().num_labels), (12, 5));
    assert_eq!((vit.config().patch_size, vit.config().image_size), ([4, 4], [8, 8]));

    weights.remove("vit.layernorm.bias");
    weights.insert("classifier.weight".into(), Tensor::f32([5, 2], vec![0.0; 10]).unwrap());
    weights.insert("extra".into(), Tensor::scalar(0.0));
    weights.insert("vit.pooler.dense.bias".into(), Tensor::scalar(0.0));
    let error = Vit::new(config, &weights).unwrap_err().to_string();
    let list = "missing: vit.layernorm.bias; unused: extra; of another shape: classifier.weight [5, 2] \
                instead of [5, 12]";
    assert!(error.contains(list), "{error}");
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let heads = Config { num_attention_heads: 5, ..tiny() };
    let weights = published(&tiny());
    assert!(Vit::new(heads, &weights).unwrap_err().to_string().contains("5 attention heads"));
    for (json, reason) in [
        (json!({"model_type": "vit", "hidden_size": -3}), "hidden_size is -3"),
        (json!({"model_type": "vit", "hidden_act": "mystery"}), "mystery"),
        (json!({"architectures": ["ViTForMaskedImageModeling"]}), "ViTForMaskedImageModeling"),
        (json!({"architecture": "vit_base_patch16_224", "global_pool": "map"}), "map"),
        (json!({"model_type": "vit", "image_size": [1, 2, 3]}), "image_size"),
    ] {
        let error = Config::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

fn timm(architecture: &str) -> Result<Config, Error> {
    Config::from_json(&json!({ "architecture": architecture, "num_classes": 5 }))
}

#[test]
fn timms_names_tell_what_their_weights_do_not() {
    let heads = |name| timm(name).unwrap().num_attention_heads;
    assert_eq!(heads("vit_so400m_patch14_siglip_gap_224"), 16);
    assert_eq!(heads("vit_giant_patch14_reg4_dinov2"), 24);
    assert_eq!(heads("vit_base_patch16_plus_240"), 14);
    assert_eq!(heads("deit3_medium_patch16_224"), 8);
    assert_eq!(timm("vit_so400m_patch16_siglip_gap_256").unwrap().hidden_act, Unary::GeluTanh);
    assert!(timm("vit_base_patch16_rpn_224").unwrap().timm.res_post_norm);
}

#[test]
fn timms_models_that_would_give_other_numbers_are_refused() {
    assert!(timm("vit_base_patch16_rope_ape_224").is_err());
    assert!(timm("vit_unheard_patch16_224").is_err());
}
