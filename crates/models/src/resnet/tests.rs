use std::collections::HashMap;

use kiln_graph::random::SplitMix64;
use kiln_graph::{Interpreter, Tensor};
use serde_json::json;

use super::*;

fn names(layout: Layout) -> Names {
    let marker: HashMap<String, Tensor> = match layout {
        Layout::Timm => HashMap::new(),
        Layout::Transformers => {
            [("embedder.embedder.convolution.weight".to_string(), Tensor::scalar(0.0))].into()
        }
    };
    Names::of(&marker, "")
}

/// Small numbers for every weight of the network; variances are positive.
fn weights(net: &ResNet) -> HashMap<String, Tensor> {
    let graph = net.graph(1, [32; 2], &Taps::none()).unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let (desc, offset) = (graph.desc(value), if name.contains("running_var") { 1.0 } else { 0.0 });
        let random = SplitMix64::named(&desc.to_string());
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.4, offset)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

fn tiny(block: Block) -> Config {
    let mut config =
        Config::named(if block == Block::Basic { "resnet18" } else { "resnext50_32x4d" }).unwrap();
    config.embedding_size = 4;
    config.num_labels = 3;
    for (stage, width) in config.stages.iter_mut().zip([4, 6, 8, 10]) {
        let channels = if block == Block::Basic { width } else { 2 * width };
        *stage = Stage { blocks: 2, width, groups: if block == Block::Basic { 1 } else { 2 }, channels };
    }
    config
}

fn run(net: &ResNet, weights: &HashMap<String, Tensor>) -> Vec<f64> {
    let pixels = (0..40 * 33 * 3).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let pixels = Tensor::f32([1, 40, 33, 3], pixels).unwrap();
    let graph = net.graph(1, [40, 33], &Taps::none()).unwrap();
    Interpreter::new(graph, weights).unwrap().run(&[("pixel_values", pixels)]).unwrap()[0].to_f64()
}

#[test]
fn presets_have_torchvisions_numbers_of_parameters() {
    let sizes = [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("wide_resnet50_2", 68_883_240),
        ("resnext50_32x4d", 25_028_904),
        ("resnext101_64x4d", 83_455_272),
    ];
    for (name, parameters) in sizes {
        let net = ResNet { config: Config::named(name).unwrap(), names: names(Layout::Timm) };
        let graph = net.graph(1, [64; 2], &Taps::none()).unwrap();
        let weights = graph.weights().filter(|(name, _)| !name.contains("running"));
        let sum: usize = weights.map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!(sum, parameters, "{name}");
    }
}

#[test]
fn both_layouts_give_the_same_logits_with_sizes_from_the_weights() {
    for block in [Block::Basic, Block::Bottleneck] {
        let net = ResNet { config: tiny(block), names: names(Layout::Timm) };
        let timm = weights(&net);
        let read = ResNet::new(Config::named("resnet50").unwrap(), &timm).unwrap();
        assert_eq!(read.config(), &tiny(block));
        let net = ResNet { config: tiny(block), names: names(Layout::Transformers) };
        // Values follow from shapes alone, so that they are the same under both names.
        let transformers = weights(&net);
        let other = ResNet::new(tiny(block), &transformers).unwrap();
        assert_eq!(run(&read, &timm), run(&other, &transformers));
    }
}

#[test]
fn dilation_keeps_the_last_stages_large() {
    let config = Config { output_stride: 16, ..tiny(Block::Bottleneck) };
    let net = ResNet { config, names: names(Layout::Timm) };
    let mut b = Builder::new();
    let x = b.input("x", [1, 64, 96, 3], DType::F32).unwrap();
    let stages = net.stages(&mut b, x, None, &Taps::none()).unwrap();
    let sizes: Vec<_> = stages.into_iter().map(|value| b.shape(value)[1..3].to_vec()).collect();
    assert_eq!(sizes, [[16, 24], [8, 12], [4, 6], [4, 6]]);
}

#[test]
fn other_forms_are_refused() {
    let timm = |name: &str| Config::from_json(&json!({ "architecture": name, "num_classes": 5 }));
    assert!(timm("resnet50.a1_in1k").is_ok());
    assert!(timm("resnetblur50").is_err());
    let transformers =
        |layer: &str| Config::from_json(&json!({ "model_type": "resnet", "layer_type": layer }));
    assert!(transformers("basic").is_ok());
    assert!(transformers("other").is_err());
    let sizes = |depths: &[usize]| {
        Config::from_json(&json!({ "model_type": "resnet", "depths": depths, "hidden_sizes": [8, 8, 8] }))
    };
    assert_eq!(sizes(&[1, 2, 3]).unwrap().stages.len(), 3);
    assert!(sizes(&[1, 2, 3, 4]).unwrap_err().to_string().contains("4 depths and 3 hidden_sizes"));
    let net = ResNet { config: tiny(Block::Basic), names: names(Layout::Timm) };
    let mut weights = weights(&net);
    weights.remove("layer2.1.bn2.running_mean");
    weights.insert("layer1.0.se.fc1.weight".into(), Tensor::scalar(0.0));
    let error = ResNet::new(tiny(Block::Basic), &weights).unwrap_err().to_string();
    assert!(error.contains("missing: layer2.1.bn2.running_mean; unused: layer1.0.se.fc1.weight"), "{error}");
}
