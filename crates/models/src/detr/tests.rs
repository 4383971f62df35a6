use std::collections::HashMap;

use kiln_graph::Interpreter;
use kiln_graph::random::SplitMix64;
use serde_json::{Value as Json, json};

use super::*;

fn config() -> Json {
    json!({
        "model_type": "detr", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "num_queries": 5,
        "encoder_attention_heads": 2, "decoder_attention_heads": 4, "encoder_ffn_dim": 12, "decoder_ffn_dim": 20,
        "num_labels": 3,
        "backbone_config": { "model_type": "resnet", "layer_type": "basic", "embedding_size": 4,
            "hidden_sizes": [4, 6, 8, 12], "depths": [1, 1, 1, 1] }
    })
}

/// Small numbers for every weight of the model; variances and norms are around 1.
fn published(config: &Json) -> HashMap<String, Tensor> {
    let mut config = Config::from_json(config).unwrap();
    let root = if config.masks { "detr." } else { "" };
    let marker: HashMap<String, Tensor> = [
        "model.backbone.conv_encoder.model.embedder.embedder.convolution.weight",
        "class_labels_classifier.weight",
    ]
    .map(|name| (format!("{root}{name}"), Tensor::scalar(0.0)))
    .into();
    config.masks = !root.is_empty();
    let names = Names::of(&marker);
    let backbone = ResNet::backbone(config.backbone.clone(), &marker, &names.backbone());
    let detr = Detr { config, names, backbone };
    let graph =
        detr.graph(Images { batch: 1, size: [32; 2], padding: Padding::None }, &Taps::none()).unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let around = ["running_var", "norm.weight", "normalization.weight"].iter().any(|n| name.contains(n));
        let (desc, random) = (graph.desc(value), SplitMix64::named(name));
        let offset = if around { 1.0 } else { 0.0 };
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.4, offset)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

fn picture(seed: &str, [height, width]: [usize; 2]) -> Vec<f32> {
    let random = SplitMix64::named(seed);
    (0..height * width * 3).map(|i| random.affine(i as u64, 1.0, 0.0)).collect()
}

fn run(
    detr: &Detr,
    weights: &HashMap<String, Tensor>,
    images: Images,
    inputs: &[(&str, Tensor)],
) -> HashMap<String, Tensor> {
    let graph = detr.graph(images, &Taps::none()).unwrap();
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let outputs = Interpreter::new(graph, weights).unwrap().run(inputs).unwrap();
    names.into_iter().zip(outputs).collect()
}

fn alone(
    detr: &Detr,
    weights: &HashMap<String, Tensor>,
    seed: &str,
    size: [usize; 2],
) -> HashMap<String, Tensor> {
    let pixels = Tensor::f32([1, size[0], size[1], 3], picture(seed, size)).unwrap();
    run(detr, weights, Images { batch: 1, size, padding: Padding::None }, &[("pixel_values", pixels)])
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn padded_pictures_give_what_they_give_alone() {
    let weights = published(&config());
    let detr = Detr::new(Config::from_json(&config()).unwrap(), &weights).unwrap();
    let (sizes, [height, width]) = ([[96, 64], [64, 128]], [96, 128]);
    let (mut pixels, mut mask) = (vec![0.0; 2 * height * width * 3], vec![0; 2 * height * width]);
    for (i, size) in sizes.into_iter().enumerate() {
        let values = picture(&format!("picture {i}"), size);
        for (y, row) in values.chunks(3 * size[1]).enumerate() {
            let start = (i * height + y) * width;
            pixels[3 * start..3 * start + row.len()].copy_from_slice(row);
            mask[start..start + size[1]].fill(1);
        }
    }
    let inputs = [
        ("pixel_values", Tensor::f32([2, height, width, 3], pixels).unwrap()),
        ("pixel_mask", Tensor::bool([2, height, width], mask).unwrap()),
    ];
    let images = Images { batch: 2, size: [height, width], padding: Padding::Everywhere };
    let together = run(&detr, &weights, images, &inputs);
    for (i, size) in sizes.into_iter().enumerate() {
        let single = alone(&detr, &weights, &format!("picture {i}"), size);
        for name in ["logits", "boxes", "scores"] {
            let all = together[name].to_f64();
            let each = all.len() / 2;
            close(&all[i * each..][..each], &single[name].to_f64());
        }
        assert_eq!(together["labels"].to_f64()[i * 5..][..5], single["labels"].to_f64());
    }
}

#[test]
fn names_in_memory_give_the_same_answer() {
    let weights = published(&config());
    let memory: HashMap<String, Tensor> = weights
        .iter()
        .map(|(name, tensor)| {
            let name = name.replace("backbone.conv_encoder.model", "backbone.model");
            let name = name.replace("out_proj", "o_proj").replace(".fc", ".mlp.fc");
            (name, tensor.clone())
        })
        .collect();
    let read = |weights| Detr::new(Config::from_json(&config()).unwrap(), weights).unwrap();
    let [a, b] = [&weights, &memory].map(|weights| alone(&read(weights), weights, "x", [32, 64]));
    assert_eq!(a["logits"], b["logits"]);
    assert_eq!(a["pred_boxes"], b["pred_boxes"]);
}

#[test]
fn the_answer_follows_from_logits_and_boxes() {
    let weights = published(&config());
    let detr = Detr::new(Config::from_json(&config()).unwrap(), &weights).unwrap();
    let found = alone(&detr, &weights, "y", [64, 64]);
    for query in 0..5 {
        let logits = &found["logits"].to_f64()[4 * query..][..4];
        let sum: f64 = logits.iter().map(|v| v.exp()).sum();
        let best = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(found["labels"].to_f64()[query] as usize, best);
        close(&[found["scores"].to_f64()[query]], &[logits[best].exp() / sum]);
        let [x, y, w, h] = found["pred_boxes"].to_f64()[4 * query..][..4] else { unreachable!() };
        let corners = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
        close(&found["boxes"].to_f64()[4 * query..][..4], &corners);
    }
}

#[test]
fn learned_positions_reach_fifty_rows() {
    let mut config = config();
    config["position_embedding_type"] = "learned".into();
    let weights = published(&config);
    assert!(weights.contains_key("model.position_embedding.row_embeddings.weight"));
    let detr = Detr::new(Config::from_json(&config).unwrap(), &weights).unwrap();
    let images = |height| Images { batch: 1, size: [height, 32], padding: Padding::None };
    assert!(detr.graph(images(1600), &Taps::none()).is_ok());
    let error = detr.graph(images(1601), &Taps::none()).unwrap_err().to_string();
    assert!(error.contains("50 rows and columns, not 51 and 1"), "{error}");
}

#[test]
fn both_ages_of_configurations_name_the_backbone() {
    let old = json!({ "backbone": "resnet101", "dilation": true, "use_timm_backbone": true });
    let new = json!({ "backbone_config": { "model_type": "timm_backbone", "backbone": "resnet101", "output_stride": 16 } });
    let [old, new] = [old, new].map(|json| Config::from_json(&json).unwrap());
    assert_eq!(old, new);
    assert_eq!((old.backbone.stages[2].blocks, old.backbone.output_stride), (23, 16));
    assert!(Config::from_json(&json!({ "backbone_config": { "model_type": "swin" } })).is_err());
}

#[test]
fn features_come_from_the_last_of_any_number_of_stages() {
    let mut three = config();
    three["backbone_config"]["hidden_sizes"] = json!([4, 6, 12]);
    three["backbone_config"]["depths"] = json!([1, 2, 1]);
    three["backbone_config"]["out_indices"] = json!([3]);
    let weights = published(&three);
    // The weights decide where the configuration says otherwise.
    let detr = Detr::new(Config::from_json(&config()).unwrap(), &weights).unwrap();
    assert_eq!(detr.config().backbone.stages, Config::from_json(&three).unwrap().backbone.stages);
    let images = Images { batch: 1, size: [64, 96], padding: Padding::None };
    let graph = detr.graph(images, &Taps::of(["feature_map"])).unwrap();
    assert_eq!(graph.desc(graph.outputs()[0].1).shape, [1, 4, 6, 12]);
    three["backbone_config"]["out_indices"] = json!([2]);
    assert!(Config::from_json(&three).unwrap_err().to_string().contains("out_indices end with 2"));
}

/// The name in memory of a weight of the head for masks.
fn renamed(name: &str) -> String {
    let mut name = name.replace("q_linear", "q_proj").replace("k_linear", "k_proj");
    name = name.replace("mask_head.out_lay", "mask_head.output_conv");
    for i in 1..=5 {
        let block = if i < 3 { format!("conv{i}") } else { format!("fpn_stages.{}.refine", i - 3) };
        name = name.replace(&format!("mask_head.lay{i}."), &format!("mask_head.{block}.conv."));
        name = name.replace(&format!("mask_head.gn{i}."), &format!("mask_head.{block}.norm."));
        let stage = format!("mask_head.fpn_stages.{}.fpn_adapter.", i - 1);
        name = name.replace(&format!("mask_head.adapter{i}."), &stage);
    }
    let name = name.replace("backbone.conv_encoder.model", "backbone.model");
    name.replace("out_proj", "o_proj").replace(".fc", ".mlp.fc")
}

#[test]
fn masks_have_a_quarter_of_the_images_size_under_both_names() {
    let mut config = config();
    config["architectures"] = json!(["DetrForSegmentation"]);
    config["d_model"] = 32.into();
    config["encoder_attention_heads"] = 8.into();
    let weights = published(&config);
    let memory = weights.iter().map(|(name, tensor)| (renamed(name), tensor.clone())).collect();
    let read = |weights| Detr::new(Config::from_json(&config).unwrap(), weights).unwrap();
    let [a, b] = [&weights, &memory].map(|weights| alone(&read(weights), weights, "x", [64, 96]));
    assert_eq!(a["pred_masks"].shape(), [1, 5, 16, 24]);
    assert_eq!(a["pred_masks"], b["pred_masks"]);
    config["d_model"] = 24.into();
    let detr = Config::from_json(&config).unwrap().checked();
    assert!(detr.unwrap_err().to_string().contains("no head for masks"));
}
