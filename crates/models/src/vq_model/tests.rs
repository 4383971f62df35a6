use std::collections::HashMap;
use std::sync::Arc;

use kiln_graph::ops::Unary;
use kiln_graph::random::SplitMix64;
use kiln_graph::{Interpreter, Tensor, WeightSource};
use serde_json::{Value as Json, json};

use super::*;
use crate::latents::Scaling;
use crate::weights::SharedWeights;

/// Two blocks, the inner one with attentions, and five codes of two channels.
fn tiny() -> Json {
    json!({
        "_class_name": "VQModel", "block_out_channels": [4, 8], "layers_per_block": 1, "norm_num_groups": 2,
        "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        "latent_channels": 3, "num_vq_embeddings": 5, "vq_embed_dim": 2,
    })
}

/// A configuration of the paper's code for a model of the same sizes.
fn original() -> Json {
    json!({
        "embed_dim": 2, "n_embed": 5, "num_groups": 2,
        "ddconfig": {
            "attn_resolutions": [16], "ch": 4, "ch_mult": [1, 2], "double_z": false, "dropout": 0.0,
            "in_channels": 3, "num_res_blocks": 1, "out_ch": 3, "resolution": 32, "z_channels": 3,
        },
    })
}

fn with(mut json: Json, changes: Json) -> Json {
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    json
}

fn config() -> Config {
    Config::from_json(&tiny()).unwrap()
}

/// Numbers in -0.5..0.5 for every weight of the model.
fn weights(config: &Config) -> HashMap<String, Tensor> {
    let graph = VqModel { config: config.clone(), names: Names::default() }.whole().unwrap();
    let weights = graph.weights().map(|(name, value)| {
        let (desc, random) = (graph.desc(value), SplitMix64::named(name));
        let data = (0..desc.len()).map(|i| random.affine(i as u64, 0.5, 0.0)).collect();
        (name.to_string(), Tensor::f32(desc.shape.clone(), data).unwrap())
    });
    weights.collect()
}

fn image(size: [usize; 2]) -> Tensor {
    let random = SplitMix64::named("image");
    let len = size[0] * size[1] * 3;
    let data = (0..len).map(|i| random.affine(i as u64, 1.0, 0.0)).collect();
    Tensor::f32([1, size[0], size[1], 3], data).unwrap()
}

fn run(graph: Graph, weights: &dyn WeightSource, input: (&str, Tensor)) -> HashMap<String, Tensor> {
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let outputs = Interpreter::new(graph, weights).unwrap().run(&[input]).unwrap();
    names.into_iter().zip(outputs).collect()
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    for (name, parameters, factor) in [
        ("imagenet-f16-1024", 72_141_699, 16),
        ("imagenet-f16-16384", 76_073_859, 16),
        ("vq-f4", 55_322_782, 4),
        ("vq-f8", 67_717_295, 8),
        ("gumbel-f8", 68_995_971, 8),
    ] {
        let config = Config::named(name).unwrap().checked().unwrap();
        let model = VqModel { config, names: Names::default() };
        let graph = model.whole().unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!((sum, model.spatial_factor()), (parameters, factor), "{name}");
    }
}

#[test]
fn both_halves_are_the_whole_and_codes_are_the_nearest_rows() {
    let weights = weights(&config());
    let model = VqModel::new(config(), &weights).unwrap();
    // Five rows of pixels: the last is not of a whole code.
    let whole = run(model.graph(1, [5, 6], &Taps::none()).unwrap(), &weights, ("image", image([5, 6])));
    let taps = Taps::of(["enc_level0", "enc_attn_level", "enc_level1"]);
    let encoded = run(model.encode_graph(1, [5, 6], &taps).unwrap(), &weights, ("image", image([5, 6])));
    for name in ["latents", "codes"] {
        assert_eq!(encoded[name], whole[name]);
    }
    assert_eq!((encoded["latents"].shape(), encoded["codes"].shape()), (&[1, 2, 3, 2][..], &[1, 2, 3][..]));
    assert_eq!(encoded["mid.enc_level0"].shape(), [1, 2, 3, 4]);
    assert_eq!(encoded["mid.enc_attn_level"], encoded["mid.enc_level1"]);
    let graph = model.decode_graph(1, [2, 3], &Taps::none()).unwrap();
    let decoded = run(graph, &weights, ("codes", encoded["codes"].clone()));
    for name in ["quantized", "image"] {
        assert_eq!(decoded[name], whole[name]);
    }
    assert_eq!(whole["image"].shape(), [1, 4, 6, 3]);

    let codebook = weights["quantize.embedding.weight"].to_f64();
    let pairs = whole["latents"].to_f64();
    for ((latent, row), code) in
        pairs.chunks(2).zip(whole["quantized"].to_f64().chunks(2)).zip(whole["codes"].to_f64())
    {
        let far = |row: &[f64]| row.iter().zip(latent).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        assert_eq!(row, &codebook[code as usize * 2..][..2]);
        assert!(codebook.chunks(2).all(|other| far(other) >= far(row)));
    }
}

#[test]
fn gumbels_codes_have_the_largest_scores() {
    let weights = weights(&Config { quantizer: Quantizer::Gumbel, ..config() });
    // The weights tell which quantiser it is.
    let model = VqModel::new(config(), &weights).unwrap();
    assert_eq!(model.config().quantizer, Quantizer::Gumbel);
    let found = run(model.graph(1, [4, 6], &Taps::none()).unwrap(), &weights, ("image", image([4, 6])));
    let (rows, bias) = (weights["quantize.proj.weight"].to_f64(), weights["quantize.proj.bias"].to_f64());
    for (z, code) in found["latents"].to_f64().chunks(2).zip(found["codes"].to_f64()) {
        let score = |k: usize| rows[2 * k] * z[0] + rows[2 * k + 1] * z[1] + bias[k];
        assert!((0..5).all(|k| score(k) <= score(code as usize)));
    }
    assert_eq!(found["quantized"].shape(), [1, 2, 3, 2]);
}

#[test]
fn the_papers_names_are_the_same_weights() {
    let own = weights(&config());
    let theirs = |prefix: &str| -> HashMap<String, Tensor> {
        let renamed = own.iter().map(|(name, tensor)| {
            let mut name = name.clone();
            for (ours, theirs) in [
                ("down_blocks.", "down."),
                ("up_blocks.0", "up.1"),
                ("up_blocks.1", "up.0"),
                ("resnets.", "block."),
                ("downsamplers.0", "downsample"),
                ("upsamplers.0", "upsample"),
                ("mid_block.block.0", "mid.block_1"),
                ("mid_block.block.1", "mid.block_2"),
                ("mid_block.attentions.0", "mid.attn_1"),
                ("attentions.", "attn."),
                ("group_norm", "norm"),
                ("to_out.0", "proj_out"),
                (".to_", "."),
                ("conv_norm_out", "norm_out"),
                ("conv_shortcut", "nin_shortcut"),
            ] {
                name = name.replace(ours, theirs);
            }
            let tensor = match tensor.shape() {
                &[rows, columns] if name.contains(".attn") => tensor.reshape([rows, columns, 1, 1]).unwrap(),
                _ => tensor.clone(),
            };
            (format!("{prefix}{name}"), tensor)
        });
        renamed.collect()
    };
    for prefix in ["", "state_dict.", "first_stage_model.", "state_dict.first_stage_model."] {
        let mut weights = theirs(prefix);
        assert!(weights.contains_key(&format!("{prefix}decoder.up.1.attn.0.proj_out.weight")));
        let more = Tensor::f32([1], vec![0.0]).unwrap();
        for left_over in ["loss.logvar", "model_ema.decay", "quantize.embedding.cluster_size"] {
            weights.insert(format!("{prefix}{left_over}"), more.clone());
        }
        let seen: SharedWeights = diffusers_names(Arc::new(weights));
        let model = VqModel::new(Config::from_json(&original()).unwrap(), seen.as_ref()).unwrap();
        let graph = model.graph(1, [4, 4], &Taps::none()).unwrap();
        for (name, _) in graph.weights() {
            assert_eq!(seen.load(name).unwrap(), own[name], "{name}");
        }
    }
    // Codebooks that are averages, as others keep them: also with rows for columns.
    let codebook = &own["quantize.embedding.weight"];
    let columns = (0..10).map(|i| Some(i % 5 * 2 + i / 5));
    let transposed = codebook.pick([2, 5], columns).unwrap();
    for (name, tensor) in [
        ("quantize._codebook.embed", codebook.reshape([1, 5, 2]).unwrap()),
        ("quantize._codebook.embed", codebook.clone()),
        ("quantize.embed", transposed),
    ] {
        let mut weights = theirs("");
        weights.remove("quantize.embedding.weight");
        weights.insert(name.into(), tensor.clone());
        for left_over in ["_codebook.cluster_size", "_codebook.initted", "cluster_size", "embed_avg"] {
            weights.insert(format!("quantize.{left_over}"), tensor.clone());
        }
        let seen: SharedWeights = diffusers_names(Arc::new(weights));
        VqModel::new(Config::from_json(&original()).unwrap(), seen.as_ref()).unwrap();
        assert_eq!(&seen.load("quantize.embedding.weight").unwrap(), codebook, "{name}");
    }
    let unknown = HashMap::from([("x".to_string(), Tensor::scalar(1.0))]);
    assert_eq!(diffusers_names(Arc::new(unknown)).names(), ["x"]);
}

#[test]
fn older_attentions_of_diffusers_are_read() {
    let own = weights(&config());
    let modules = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    let renamed = own.iter().map(|(name, tensor)| {
        let found = modules.iter().find(|(new, _)| name.contains(new));
        (found.map_or(name.clone(), |(new, old)| name.replace(new, old)), tensor.clone())
    });
    let renamed: HashMap<_, _> = renamed.collect();
    let model = VqModel::new(config(), &renamed).unwrap();
    let graph = model.graph(1, [4, 4], &Taps::none()).unwrap();
    let found = run(graph, &renamed, ("image", image([4, 4])));
    let graph = VqModel::new(config(), &own).unwrap().graph(1, [4, 4], &Taps::none()).unwrap();
    assert_eq!(found, run(graph, &own, ("image", image([4, 4]))));
}

#[test]
fn both_kinds_of_configurations_are_read() {
    let expected = Config {
        stem_channels: 4,
        block_out_channels: vec![4, 8],
        layers_per_block: 1,
        encoder_attention: vec![false, true],
        decoder_attention: vec![true, false],
        norm_num_groups: 2,
        act_fn: Unary::Silu,
        latent_channels: 3,
        num_vq_embeddings: 5,
        vq_embed_dim: 2,
        sample_size: 32,
        ..Config::imagenet_f16_1024()
    };
    let scaling = Scaling { factor: 0.18215, ..Scaling::NONE };
    assert_eq!(config(), Config { scaling, ..expected.clone() });
    assert_eq!(Config::from_json(&original()).unwrap(), expected);
    let whole =
        json!({"data": {}, "model": {"target": "taming.models.vqgan.GumbelVQ", "params": original()}});
    let gumbel = Config { quantizer: Quantizer::Gumbel, ..expected.clone() };
    assert_eq!(Config::from_json(&whole).unwrap(), gumbel);
    let two_stages = json!({"model": {
        "target": "taming.models.cond_transformer.Net2NetTransformer",
        "params": {"first_stage_config": whole["model"], "transformer_config": {}},
    }});
    assert_eq!(Config::from_json(&two_stages).unwrap(), gumbel);
    assert!(Config::is_original(&whole) && !Config::is_original(&two_stages));
    // Without attentions, and with a first convolution that is narrower than the first block.
    let narrow = with(original()["ddconfig"].clone(), json!({"ch_mult": [2, 4], "attn_type": "none"}));
    let narrow = with(original(), json!({"ddconfig": narrow}));
    let expected = Config {
        block_out_channels: vec![8, 16],
        encoder_attention: vec![false; 2],
        decoder_attention: vec![false; 2],
        mid_block_add_attention: false,
        ..expected
    };
    assert_eq!(Config::from_json(&narrow).unwrap(), expected);
    VqModel::new(expected.clone(), &weights(&expected)).unwrap();
}

#[test]
fn configurations_that_kiln_does_not_compute_are_refused() {
    let ours = |changes: Json| with(tiny(), changes);
    let theirs = |changes: Json| with(original(), changes);
    let inner = |changes: Json| theirs(json!({"ddconfig": with(original()["ddconfig"].clone(), changes)}));
    for (json, reason) in [
        (json!({"_class_name": "AutoencoderKL"}), "AutoencoderKL is no VQModel"),
        (ours(json!({"norm_type": "spatial"})), "norm_type is \"spatial\""),
        (
            ours(json!({"down_block_types": ["DownEncoderBlock2D", "Strange"]})),
            "down_block_types has \"Strange\"",
        ),
        (ours(json!({"up_block_types": ["UpDecoderBlock2D"]})), "up_block_types names 1 blocks"),
        (ours(json!({"act_fn": "snake"})), "snake"),
        (ours(json!({"force_upcast": "yes"})), "force_upcast"),
        (ours(json!({"lookup_from_codebook": 1})), "lookup_from_codebook"),
        (ours(json!({"num_vq_embeddings": -1})), "num_vq_embeddings is -1"),
        (theirs(json!({"remap": "used.npy"})), "remap is \"used.npy\""),
        (theirs(json!({"n_embed": null})), "no n_embed"),
        (inner(json!({"double_z": true})), "double_z is true"),
        (inner(json!({"resamp_with_conv": false})), "resamp_with_conv is false"),
        (inner(json!({"use_linear_attn": true})), "use_linear_attn is true"),
        (inner(json!({"attn_type": "linear"})), "attn_type is \"linear\""),
        (inner(json!({"give_pre_end": true})), "give_pre_end is true"),
        (inner(json!({"tanh_out": true})), "tanh_out is true"),
        (inner(json!({"resolution": null})), "no resolution"),
        (inner(json!({"ch_mult": vec![1; 17]})), "ch_mult has 17 blocks"),
        (
            json!({"model": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": original()}}),
            "ldm.models.autoencoder.AutoencoderKL is no autoencoder with a codebook",
        ),
    ] {
        let error = Config::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for (changed, reason) in [
        (Config { norm_num_groups: 3, ..config() }, "3 groups do not divide a block's 4 channels"),
        (Config { block_out_channels: Vec::new(), ..config() }, "0 blocks of 1 layers"),
        (Config { layers_per_block: 1 << 20, ..config() }, "2 blocks of 1048576 layers"),
        (Config { encoder_attention: vec![true], ..config() }, "tells of 1 blocks"),
        (Config { latent_channels: 0, ..config() }, "channels"),
        (Config { num_vq_embeddings: 0, ..config() }, "0 codes of 2 channels"),
    ] {
        let error = VqModel::new(changed, &HashMap::new()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn sizes_come_from_the_weights_but_for_the_codebooks() {
    let weights = weights(&config());
    let wide = Config { block_out_channels: vec![16, 16], in_channels: 1, latent_channels: 7, ..config() };
    assert_eq!(VqModel::new(wide, &weights).unwrap().config(), &config());
    let error = VqModel::new(Config { num_vq_embeddings: 6, ..config() }, &weights).unwrap_err().to_string();
    assert!(
        error.contains("of another shape: quantize.embedding.weight [5, 2] instead of [6, 2]"),
        "{error}"
    );
    let error = VqModel::new(Config { vq_embed_dim: 3, ..config() }, &weights).unwrap_err().to_string();
    assert!(error.contains("quant_conv.weight [2, 3, 1, 1] instead of [3, 3, 1, 1]"), "{error}");
    let mut remapped = weights.clone();
    remapped.insert("quantize.used".into(), Tensor::f32([2], vec![0.0, 3.0]).unwrap());
    let error = VqModel::new(config(), &remapped).unwrap_err().to_string();
    assert!(error.contains("unused: quantize.used"), "{error}");
}

#[test]
fn requests_that_hold_nothing_are_refused() {
    let weights = weights(&config());
    let model = VqModel::new(config(), &weights).unwrap();
    let error = model.encode_graph(1, [8, 1], &Taps::none()).unwrap_err().to_string();
    assert!(error.contains("1 images of 8x1 pixels"), "{error}");
    assert!(model.graph(1, [1, 8], &Taps::none()).is_err());
    assert!(model.encode_graph(0, [8, 8], &Taps::none()).is_err());
    assert!(model.decode_graph(1, [0, 4], &Taps::none()).is_err());
    let codes = |values: Vec<i32>| Tensor::i32([values.len()], values).unwrap();
    model.check_codes(&codes(vec![0, 4])).unwrap();
    for (wrong, code) in [(vec![0, 5], "5 is none"), (vec![-1], "-1 is none")] {
        let error = model.check_codes(&codes(wrong)).unwrap_err().to_string();
        assert!(error.contains(code), "{error}");
    }
}

#[test]
fn what_chooses_codes_stays_f32() {
    let model = VqModel { config: config(), names: Names::default() };
    let graph = model.graph(1, [4, 4], &Taps::none()).unwrap();
    let kept: Vec<String> = model.keep_f32(&graph).into_iter().collect();
    assert_eq!(kept, ["quant_conv", "quantize"]);
}
