use std::collections::HashMap;

use kiln_graph::Interpreter;
use kiln_graph::random::SplitMix64;
use serde_json::json;

use super::*;

fn tiny() -> Config {
    Config {
        encoder_channels: 2,
        decoder_channels: 3,
        num_encoder_blocks: vec![1, 0, 2],
        num_decoder_blocks: vec![2, 1, 0],
        latent_channels: 2,
        ..Config::taesd()
    }
}

fn graphs(config: &Config) -> [Graph; 2] {
    let model = TinyAutoencoder { config: config.clone() };
    [
        model.encode_graph(1, [8, 8], &Taps::none()).unwrap(),
        model.decode_graph(1, [2, 2], &Taps::none()).unwrap(),
    ]
}

fn weights(config: &Config) -> HashMap<String, Tensor> {
    let weights = graphs(config).into_iter().flat_map(|graph| {
        let weights = graph.weights().map(|(name, value)| {
            let (desc, random) = (graph.desc(value), SplitMix64::named(name));
            let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
            (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
        });
        weights.collect::<Vec<_>>()
    });
    weights.collect()
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    for (name, parameters) in [("taesd", 2_445_063), ("taesd3", 2_458_899)] {
        let sum: usize = graphs(&Config::named(name).unwrap())
            .iter()
            .map(|graph| graph.weights().map(|(_, value)| graph.desc(value).len()).sum::<usize>())
            .sum();
        assert_eq!(sum, parameters, "{name}");
    }
}

#[test]
fn sizes_come_from_the_weights_and_misfits_are_listed() {
    let mut weights = weights(&tiny());
    let model = TinyAutoencoder::new(Config::taesd3(), &weights).unwrap();
    assert_eq!((model.config(), model.spatial_factor()), (&tiny(), 4));

    weights.remove("decoder.layers.5.weight");
    weights.insert("extra".into(), Tensor::scalar(0.0));
    let error = TinyAutoencoder::new(tiny(), &weights).unwrap_err().to_string();
    assert!(error.contains("decoder.layers.5") && error.contains("unused: extra"), "{error}");
    let error = TinyAutoencoder::new(tiny(), &HashMap::new()).unwrap_err().to_string();
    assert!(error.contains("missing: decoder.layers.0.bias"), "{error}");
}

#[test]
fn large_latents_are_bent() {
    let weights = weights(&tiny());
    let decode = |value: f32| {
        let latents = Tensor::f32([1, 2, 2, 2], vec![value; 8]).unwrap();
        let [_, graph] = graphs(&tiny());
        Interpreter::new(graph, &weights).unwrap().run(&[("latents", latents)]).unwrap()[0].to_f64()
    };
    assert_eq!(decode(1e4), decode(1e6));
    assert_ne!(decode(1.0), decode(2.0));
}

#[test]
fn latents_are_stored_as_pictures() {
    let weights = weights(&tiny());
    let config = Config { latent_magnitude: 2.0, latent_shift: 0.25, ..tiny() };
    let model = TinyAutoencoder::new(config, &weights).unwrap();
    let latents = Tensor::f32([4], vec![-2.0, -1.0, 1.0, 9.0]).unwrap();
    let scaled = model.scale_latents(&latents).unwrap();
    assert_eq!(scaled.as_f32(), Some(&[0.0, 0.0, 0.5, 1.0][..]));
    assert_eq!(model.unscale_latents(&scaled).unwrap().as_f32(), Some(&[-1.0, -1.0, 1.0, 3.0][..]));
}

#[test]
fn configurations_that_kiln_does_not_compute_are_refused() {
    for (json, reason) in [
        (json!({"_class_name": "AutoencoderKL"}), "AutoencoderKL is no AutoencoderTiny"),
        (json!({"upsample_fn": "bilinear"}), "bilinear"),
        (json!({"encoder_block_out_channels": [64, 32, 64, 64]}), "its stages add to one another"),
        (json!({"num_decoder_blocks": [3, 3, 1]}), "num_decoder_blocks has 3 stages"),
        (json!({"act_fn": "snake"}), "snake"),
    ] {
        let error = Config::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for (config, reason) in [
        (Config { upsampling_scaling_factor: 0, ..tiny() }, "upsampling_scaling_factor is 0"),
        (Config { num_encoder_blocks: vec![1 << 20], ..tiny() }, "more than Kiln takes"),
        (Config { latent_channels: 0, ..tiny() }, "channels"),
        (Config { latent_magnitude: 0.0, ..tiny() }, "latent_magnitude is 0"),
    ] {
        let error = TinyAutoencoder::new(config, &HashMap::new()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(TinyAutoencoder { config: tiny() }.decode_graph(1, [0, 4], &Taps::none()).is_err());
}

#[test]
fn the_configuration_is_read() {
    let json = json!({
        "_class_name": "AutoencoderTiny", "encoder_block_out_channels": [8, 8], "num_encoder_blocks": [1, 2],
        "decoder_block_out_channels": [6], "num_decoder_blocks": [4], "latent_channels": 16, "act_fn": "gelu",
        "scaling_factor": 0.5, "shift_factor": 0.25, "upsample_fn": "nearest",
    });
    let expected = Config {
        encoder_channels: 8,
        num_encoder_blocks: vec![1, 2],
        decoder_channels: 6,
        num_decoder_blocks: vec![4],
        act_fn: kiln_graph::ops::Unary::Gelu,
        scaling: Scaling { factor: 0.5, shift: 0.25, ..Scaling::NONE },
        ..Config::taesd3()
    };
    assert_eq!(Config::from_json(&json).unwrap(), expected);
    assert_eq!(Config::from_json(&json!({})).unwrap(), Config::taesd());
}
