use std::collections::HashMap;

use kiln_graph::ops::Unary;
use kiln_graph::random::SplitMix64;
use kiln_graph::{Interpreter, Tensor};
use serde_json::json;

use super::*;

fn tiny() -> Config {
    Config {
        block_out_channels: vec![4, 8],
        layers_per_block: 1,
        norm_num_groups: 2,
        latent_channels: 3,
        ..Config::stable_diffusion()
    }
}

/// Numbers in -0.5..0.5 for every weight of the model.
fn weights(config: &Config, names: Names) -> HashMap<String, Tensor> {
    let model = Autoencoder { config: config.clone(), names };
    let graph = model.whole().unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let (desc, random) = (graph.desc(value), SplitMix64::named(name));
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

fn decode(config: &Config, weights: &HashMap<String, Tensor>) -> Vec<f64> {
    let model = Autoencoder::new(config.clone(), weights).unwrap();
    let graph = model.decode_graph(1, [2, 3], &Taps::none()).unwrap();
    let random = SplitMix64::named("latents");
    let data = (0..18).map(|i| random.affine(i, 1.0, 0.0)).collect();
    let latents = Tensor::f32([1, 2, 3, 3], data).unwrap();
    Interpreter::new(graph, weights).unwrap().run(&[("latents", latents)]).unwrap()[0].to_f64()
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    let sizes = [("sd", 83_653_863), ("sdxl", 83_653_863), ("sd3", 83_819_683), ("flux", 83_819_683)];
    for (name, parameters) in sizes {
        let model =
            Autoencoder { config: Config::named(name).unwrap().checked().unwrap(), names: Names::default() };
        let graph = model.whole().unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!((sum, model.spatial_factor()), (parameters, 8), "{name}");
    }
}

#[test]
fn published_names_and_convolutions_are_the_same_attention() {
    let own = weights(&tiny(), Names::default());
    let expected = decode(&tiny(), &own);
    let modules = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    for squares in [false, true] {
        let renamed = own.iter().map(|(name, tensor)| {
            let found = modules.iter().find(|(new, _)| name.contains(new));
            let Some((new, old)) = found else { return (name.clone(), tensor.clone()) };
            let shape = match (squares, tensor.shape()) {
                (true, &[outputs, inputs]) => vec![outputs, inputs, 1, 1],
                (_, shape) => shape.to_vec(),
            };
            (name.replace(new, old), tensor.reshape(shape).unwrap())
        });
        assert_eq!(decode(&tiny(), &renamed.collect()), expected);
    }
    // One half by old names, the other by new ones.
    let mixed = own.iter().map(|(name, tensor)| {
        let old =
            name.starts_with("encoder").then(|| modules.iter().find(|(new, _)| name.contains(new))).flatten();
        (old.map_or(name.clone(), |(new, old)| name.replace(new, old)), tensor.clone())
    });
    assert_eq!(decode(&tiny(), &mixed.collect()), expected);
}

#[test]
fn moments_are_means_and_bounded_logarithms() {
    let mut weights = weights(&tiny(), Names::default());
    let shift: Vec<f32> = vec![0.0, 0.0, 0.0, 50.0, -50.0, 0.0];
    weights.insert("quant_conv.bias".into(), Tensor::f32([6], shift).unwrap());
    let model = Autoencoder::new(tiny(), &weights).unwrap();
    let graph = model.encode_graph(1, [5, 4], &Taps::none()).unwrap();
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["moments", "mean", "logvar", "std"]);
    let image = Tensor::f32([1, 5, 4, 3], (0..60).map(|i| (i as f32 * 0.7).sin()).collect()).unwrap();
    let outputs = Interpreter::new(graph, &weights).unwrap().run(&[("image", image)]).unwrap();
    assert_eq!(outputs[0].shape(), [1, 2, 2, 6]);
    let dist = crate::LatentDist::of_moments(&outputs[0]).unwrap();
    assert_eq!((dist.mean(), dist.logvar()), (&outputs[1], Some(&outputs[2])));
    for (own, of_graph) in dist.std().to_f64().iter().zip(outputs[3].to_f64()) {
        assert!((own - of_graph).abs() <= 1e-6 * own, "{own} {of_graph}");
    }
    for pixel in outputs[2].to_f64().chunks(3) {
        assert_eq!(pixel[..2], [20.0, -30.0]);
        assert!(pixel[2].abs() < 20.0);
    }
}

#[test]
fn sizes_come_from_the_weights_and_misfits_are_listed() {
    let mut weights = weights(&tiny(), Names::default());
    let config = Config { norm_num_groups: 2, ..Config::flux() };
    let quant = Config { use_quant_conv: true, use_post_quant_conv: true, ..config.clone() };
    let model = Autoencoder::new(quant.clone(), &weights).unwrap();
    let fitted = model.config();
    assert_eq!(
        (&fitted.block_out_channels[..], fitted.layers_per_block, fitted.latent_channels),
        (&[4, 8][..], 1, 3)
    );
    let error = Autoencoder::new(config, &weights).unwrap_err().to_string();
    assert!(
        error.contains("unused: post_quant_conv.bias, post_quant_conv.weight, quant_conv.bias"),
        "{error}"
    );

    weights.remove("decoder.conv_norm_out.bias");
    weights.insert("quant_conv.weight".into(), Tensor::f32([6, 6], vec![0.0; 36]).unwrap());
    let error = Autoencoder::new(quant, &weights).unwrap_err().to_string();
    let list = "missing: decoder.conv_norm_out.bias; of another shape: quant_conv.weight [6, 6] instead of [6, 6, 1, 1]";
    assert!(error.contains(list), "{error}");
}

#[test]
fn configurations_that_kiln_does_not_compute_are_refused() {
    for (json, reason) in [
        (json!({"_class_name": "VQModel"}), "VQModel is no AutoencoderKL"),
        (json!({"down_block_types": ["AttnDownEncoderBlock2D"]}), "AttnDownEncoderBlock2D"),
        (json!({"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]}), "AttnUpDecoderBlock2D"),
        (json!({"block_out_channels": [32, 64], "up_block_types": ["UpDecoderBlock2D"]}), "names 1 blocks"),
        (json!({"act_fn": "snake"}), "snake"),
        (json!({"layers_per_block": -1}), "layers_per_block is -1"),
        (json!({"latents_std": [1.0]}), "latents_mean"),
        (json!({"force_upcast": "yes"}), "force_upcast"),
    ] {
        let error = Config::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for (config, reason) in [
        (Config { norm_num_groups: 3, ..tiny() }, "3 groups do not divide a block's 4 channels"),
        (Config { block_out_channels: Vec::new(), ..tiny() }, "0 blocks of 1 layers"),
        (Config { layers_per_block: 1 << 20, ..tiny() }, "2 blocks of 1048576 layers"),
        (Config { latent_channels: 0, ..tiny() }, "channels"),
    ] {
        let error = Autoencoder::new(config, &HashMap::new()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_configuration_is_read() {
    let json = json!({
        "_class_name": "AutoencoderKL", "block_out_channels": [64, 128], "act_fn": "gelu", "sample_size": [96, 64],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "norm_num_groups": 16,
        "scaling_factor": 0.5, "shift_factor": null, "mid_block_add_attention": false, "use_quant_conv": false,
    });
    let expected = Config {
        block_out_channels: vec![64, 128],
        layers_per_block: 1,
        norm_num_groups: 16,
        act_fn: Unary::Gelu,
        sample_size: 96,
        scaling: Scaling { factor: 0.5, ..Scaling::NONE },
        mid_block_add_attention: false,
        use_quant_conv: false,
        ..Config::stable_diffusion()
    };
    assert_eq!(Config::from_json(&json).unwrap(), expected);
}

#[test]
fn images_of_less_than_a_latent_are_refused() {
    let weights = weights(&tiny(), Names::default());
    let model = Autoencoder::new(tiny(), &weights).unwrap();
    let error = model.encode_graph(1, [8, 1], &Taps::none()).unwrap_err().to_string();
    assert!(error.contains("1 images of 8x1 pixels"), "{error}");
    assert!(model.encode_graph(0, [8, 8], &Taps::none()).is_err());
    assert!(model.decode_graph(1, [0, 4], &Taps::none()).is_err());
}

/// Under WebGPU's default limits, weights included.
#[test]
fn decoding_512_pixels_needs_less_than_a_gigabyte() {
    let config = Config::named("sd").unwrap().checked().unwrap();
    let model = Autoencoder { config, names: Names::default() };
    let needs = |side: usize, precision| {
        let graph = model.decode_graph(1, [side, side], &Taps::none()).unwrap();
        crate::tiled::memory::estimate(&graph, precision, &kiln_graph::Tier::webgpu()).unwrap()
    };
    let (f32, f16) = (needs(64, kiln_engine::Precision::F32), needs(64, kiln_engine::Precision::F16));
    assert!(f32 <= 850_000_000 && f16 <= 420_000_000, "{f32} bytes in f32 and {f16} in f16");
    // Tiles of 192 pixels.
    let tiled = needs(24, kiln_engine::Precision::F32);
    assert!(tiled <= 300_000_000, "{tiled} bytes");
}
