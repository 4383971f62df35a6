use std::collections::HashMap;

use kiln_graph::ops::Interpolate;
use kiln_graph::random::SplitMix64;
use kiln_graph::{Interpreter, Tensor, downcast, passes};
use serde_json::{Value as Json, json};

use super::*;

/// A UNet of two stages, with transformers in the second.
fn tiny() -> Json {
    json!({
        "_class_name": "UNet2DConditionModel", "block_out_channels": [4, 8], "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": 2, "cross_attention_dim": 6, "norm_num_groups": 2,
    })
}

/// The tiny one with some keys said otherwise.
fn with(changes: Json) -> Json {
    let mut json = tiny();
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    json
}

fn config(changes: Json) -> Config {
    Config::from_json(&with(changes)).unwrap()
}

/// Numbers for a tensor of this name.
fn numbers(name: &str, shape: &[usize]) -> Tensor {
    let random = SplitMix64::named(name);
    let len: usize = shape.iter().product();
    Tensor::f32(shape, (0..len).map(|i| random.affine(i as u64, 0.5, 0.0)).collect()).unwrap()
}

/// Numbers for every weight of the model.
pub(crate) fn weights(config: &Config) -> HashMap<String, Tensor> {
    let unet = UNet { config: config.clone() };
    let graph = unet.graph(Shape { batch: 1, size: [4, 4], tokens: 1 }, &Taps::none()).unwrap();
    let weights = graph.weights().map(|(name, value)| (name.into(), numbers(name, &graph.desc(value).shape)));
    weights.collect()
}

fn run(graph: Graph, weights: &HashMap<String, Tensor>, inputs: &[(&str, Tensor)]) -> Vec<Tensor> {
    Interpreter::new(graph, weights).unwrap().run(inputs).unwrap()
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    for (name, parameters) in [("sd1", 859_520_964), ("sd2", 865_910_724)] {
        let unet = UNet { config: Config::named(name).unwrap().checked().unwrap() };
        let graph = unet.graph(Shape { batch: 1, size: [8, 8], tokens: 77 }, &Taps::none()).unwrap();
        let sum: usize = graph.weights().map(|(_, value)| graph.desc(value).len()).sum();
        assert_eq!(sum, parameters, "{name}");
    }
    assert_eq!(Config::named("sd3"), None);
}

#[test]
fn presets_are_what_published_configurations_say() {
    let published = |heads: Json, width: usize, linear: bool, size: usize| {
        let json = json!({
            "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": heads,
            "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
            "cross_attention_dim": width, "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
            "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
            "norm_num_groups": 32, "out_channels": 4, "sample_size": size, "use_linear_projection": linear,
            "dual_cross_attention": false, "only_cross_attention": false, "class_embed_type": null,
            "resnet_time_scale_shift": "default", "upcast_attention": linear,
            "down_block_types":
                ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        });
        Config::from_json(&json).unwrap()
    };
    assert_eq!(published(json!(8), 768, false, 64), Config::sd1());
    assert_eq!(published(json!([5, 10, 20, 20]), 1024, true, 96), Config::sd2());
}

#[test]
fn a_step_with_its_parts_computed_before_is_the_whole() {
    for changes in [
        json!({}),
        json!({"only_cross_attention": true, "resnet_time_scale_shift": "scale_shift", "encoder_hid_dim": 5,
            "transformer_layers_per_block": [1, 2], "time_cond_proj_dim": 3, "num_class_embeds": 4,
            "use_linear_projection": true, "in_channels": 9}),
    ] {
        let config = config(changes);
        let weights = weights(&config);
        let unet = UNet::new(config, &weights).unwrap();
        let shape = Shape { batch: 2, size: [5, 6], tokens: 3 };
        let states = numbers("states", &[2, 3, unet.config().prompt_width()]);
        let sample = numbers("sample", &[2, 5, 6, unet.config().in_channels]);
        let conditions = |rows: usize| {
            let labels = Tensor::i32([rows], vec![3; rows]).unwrap();
            let cond = Tensor::f32([rows, 3], [0.5, -1.0, 2.0].repeat(rows)).unwrap();
            let all = [("class_labels", labels), ("timestep_cond", cond)];
            all.into_iter().filter(|_| unet.config().time.class.is_some()).collect::<Vec<_>>()
        };
        let timestep = ("timestep", Tensor::f32([2], vec![301.0; 2]).unwrap());
        let mut inputs =
            vec![timestep, ("sample", sample.clone()), ("encoder_hidden_states", states.clone())];
        inputs.extend(conditions(2));
        let whole = run(unet.graph(shape, &Taps::none()).unwrap(), &weights, &inputs);

        let prompt = run(unet.prompt_graph(2, 3).unwrap(), &weights, &[("encoder_hidden_states", states)]);
        let shapes = unet.prompt_shapes(2, 3);
        assert_eq!(prompt.len(), shapes.len());
        // The second of three timesteps of a schedule.
        let mut inputs = vec![("timesteps", Tensor::f32([3], vec![901.0, 301.0, 1.0]).unwrap())];
        inputs.extend(conditions(3));
        let times = run(unet.time_graph(3).unwrap(), &weights, &inputs).swap_remove(0);
        assert_eq!(times.shape(), [3, unet.time_width()]);
        let width = unet.time_width();
        let time = times.pick([1, width], (width..2 * width).map(Some)).unwrap();
        let mut inputs = vec![("sample", sample), ("time", time)];
        for ((name, shape), value) in shapes.iter().zip(prompt) {
            assert_eq!(value.shape(), shape.as_slice(), "{name}");
            inputs.push((name, value));
        }
        let step = run(unet.step_graph(shape).unwrap(), &weights, &inputs);
        assert_eq!(step, whole);
    }
}

#[test]
fn each_latent_has_its_own_timestep_and_prompt() {
    let config = config(json!({}));
    let weights = weights(&config);
    let unet = UNet::new(config, &weights).unwrap();
    let predict = |batch: usize, at: usize| {
        let part = |name: &str, shape: &[usize]| {
            let len: usize = shape.iter().product();
            let rows = (at * len..(at + batch) * len).map(Some);
            numbers(name, &[2 * len]).pick([&[batch], shape].concat(), rows).unwrap()
        };
        let timesteps = [17.0, 801.0][at..][..batch].to_vec();
        let timestep = Tensor::f32([batch], timesteps).unwrap();
        let inputs = [
            ("sample", part("sample", &[4, 4, 4])),
            ("timestep", timestep),
            ("encoder_hidden_states", part("states", &[2, 6])),
        ];
        let shape = Shape { batch, size: [4, 4], tokens: 2 };
        run(unet.graph(shape, &Taps::none()).unwrap(), &weights, &inputs)[0].to_f64()
    };
    assert_eq!(predict(2, 0), [predict(1, 0), predict(1, 1)].concat());
}

#[test]
fn what_a_step_computes_is_fused() {
    let unet = UNet { config: Config::sd1().checked().unwrap() };
    let graph = unet.step_graph(Shape { batch: 1, size: [64, 64], tokens: 77 }).unwrap();
    let graph = passes::optimise(graph).unwrap();
    let constant = graph.constants();
    let live = |op: &str| {
        let named = graph.nodes().iter().filter(|node| node.op.name() == op);
        named.filter(|node| !constant[node.outputs[0].index()]).count()
    };
    // Queries, keys and values are one product in each of 16 transformers, whose others are the queries to the prompt, two
    // outputs and two of the perceptron.
    assert_eq!((live("matmul"), live("scaled_dot_product_attention")), (16 * 6, 32));
    assert_eq!((live("group_norm"), live("layer_norm"), live("gate")), (61, 48, 16));
    // 52 of 3x3, 32 around transformers and 14 shortcuts; what follows them is in their epilogues.
    assert_eq!(live("conv2d"), 52 + 32 + 14);
    assert_eq!((live("unary"), live("binary")), (0, 0));
    assert!(!graph.nodes().iter().any(|node| downcast::<Interpolate>(node.op.as_ref()).is_some()));
    assert_eq!((live("concat"), live("slice")), (12, 22));
}

#[test]
fn sizes_come_from_the_weights_and_misfits_are_listed() {
    let truth = config(json!({
        "in_channels": 9, "conv_in_kernel": 5, "conv_out_kernel": 1, "layers_per_block": [2, 1],
        "transformer_layers_per_block": [1, 2], "use_linear_projection": true, "only_cross_attention": true,
        "resnet_time_scale_shift": "scale_shift", "time_embedding_dim": 10, "time_cond_proj_dim": 3,
        "class_embed_type": "projection", "projection_class_embeddings_input_dim": 5, "encoder_hid_dim": 7,
    }));
    let mut weights = weights(&truth);
    let wrong = config(json!({
        "block_out_channels": [32, 64], "cross_attention_dim": 99, "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 55,
    }));
    let unet = UNet::new(wrong.clone(), &weights).unwrap();
    // The middle looks at its own pixels, whatever the others do.
    assert_eq!(unet.config(), &truth.checked().unwrap());

    weights.remove("mid_block.resnets.1.norm2.bias");
    weights.insert("conv_in.bias".into(), numbers("x", &[3]));
    weights.insert("extra".into(), Tensor::scalar(0.0));
    let error = UNet::new(wrong, &weights).unwrap_err().to_string();
    let list = "missing: mid_block.resnets.1.norm2.bias; unused: extra; of another shape: conv_in.bias [3] \
                instead of [4]";
    assert!(error.contains(list), "{error}");
}

#[test]
fn transformers_may_differ_in_depth() {
    let depths = |config: &Config| -> Vec<Vec<usize>> {
        config.stages().filter_map(|(_, stage)| Some(stage.attention.as_ref()?.layers.clone())).collect()
    };
    let blocks = json!({
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": [1, 2],
    });
    let mut given = blocks.clone();
    given["transformer_layers_per_block"] = json!([3, 1]);
    assert_eq!(depths(&config(given)), [vec![3], vec![1; 2], vec![1], vec![1; 3], vec![3; 2]]);
    let mut given = blocks;
    given["transformer_layers_per_block"] = json!([[1], [2, 4]]);
    given["reverse_transformer_layers_per_block"] = json!([[5, 6, 7], 2]);
    assert_eq!(depths(&config(given)), [vec![1], vec![2, 4], vec![2], vec![5, 6, 7], vec![2; 2]]);
}

#[test]
fn the_middle_may_be_missing() {
    let config = config(json!({ "mid_block_type": null }));
    let weights = weights(&config);
    assert!(!weights.keys().any(|name| name.starts_with("mid_block")));
    assert_eq!(UNet::new(config, &weights).unwrap().config().mid, None);
}

#[test]
fn configurations_that_kiln_does_not_do_are_refused_by_name() {
    for (changes, reason) in [
        (json!({"dual_cross_attention": true}), "dual_cross_attention is true"),
        (json!({"time_embedding_type": "fourier"}), "time_embedding_type is \"fourier\""),
        (json!({"addition_embed_type": "text_time"}), "addition_embed_type is \"text_time\""),
        (json!({"encoder_hid_dim_type": "image_proj"}), "encoder_hid_dim_type is \"image_proj\""),
        (json!({"encoder_hid_dim_type": "text_proj"}), "wants an encoder_hid_dim"),
        (json!({"class_embeddings_concat": true}), "class_embeddings_concat is true"),
        (json!({"attention_type": "gated"}), "attention_type is \"gated\""),
        (json!({"resnet_time_scale_shift": "spatial"}), "resnet_time_scale_shift is \"spatial\""),
        (json!({"class_embed_type": "mystery"}), "class_embed_type is \"mystery\""),
        (json!({"class_embed_type": "projection"}), "projection_class_embeddings_input_dim is missing"),
        (json!({"mid_block_type": "UNetMidBlock2D"}), "mid_block_type is \"UNetMidBlock2D\""),
        (json!({"down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}), "\"AttnDownBlock2D\""),
        (json!({"up_block_types": ["UpBlock2D"]}), "up_block_types names 1 blocks"),
        (json!({"down_block_types": "DownBlock2D"}), "not a list of names"),
        (json!({"act_fn": "mystery"}), "mystery"),
        (json!({"attention_head_dim": [1, 2, 3]}), "attention_head_dim is for 3 blocks, and there are 2"),
        (json!({"num_attention_heads": -1}), "num_attention_heads is -1"),
        (json!({"only_cross_attention": [true, 3]}), "only_cross_attention is no list"),
        (
            json!({"transformer_layers_per_block": [1, null]}),
            "transformer_layers_per_block has a block of null",
        ),
    ] {
        let error = Config::from_json(&with(changes)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let empty = HashMap::new();
    for (changes, reason) in [
        (json!({"attention_head_dim": 3}), "cannot share 8 channels by 3 attention heads"),
        (json!({"attention_head_dim": 0}), "by 0 attention heads"),
        (json!({"norm_num_groups": 3}), "3 groups do not divide the 4 channels of down_blocks.0"),
        (json!({"layers_per_block": [0, 1]}), "down_blocks.0 has 0 residual blocks"),
        (json!({"layers_per_block": 1 << 20}), "residual blocks, not 1 to 64"),
        (json!({"transformer_layers_per_block": 65}), "more than 64 layers"),
        (json!({"conv_in_kernel": 4}), "have to be odd"),
        (json!({"mid_block_scale_factor": 0}), "mid_block_scale_factor is 0"),
        (
            json!({"cross_attention_dim": [6, 7], "down_block_types": vec!["CrossAttnDownBlock2D"; 2]}),
            "differs",
        ),
    ] {
        let error = UNet::new(config(changes), &empty).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let mut uneven = config(json!({}));
    uneven.up[0].resnets = 5;
    let error = UNet::new(uneven, &empty).unwrap_err().to_string();
    assert!(error.contains("leaves 4 images, and the way up takes 7"), "{error}");
}

#[test]
fn latents_that_the_model_cannot_take_are_refused() {
    let config = config(json!({}));
    let weights = weights(&config);
    let unet = UNet::new(config, &weights).unwrap();
    for shape in [
        Shape { batch: 0, size: [4, 4], tokens: 1 },
        Shape { batch: 1, size: [4, 0], tokens: 1 },
        Shape { batch: 1, size: [4, 4], tokens: 0 },
    ] {
        assert!(matches!(unet.graph(shape, &Taps::none()), Err(Error::Input(_))));
        assert!(matches!(unet.step_graph(shape), Err(Error::Input(_))));
    }
    assert!(matches!(unet.prompt_graph(1, 0), Err(Error::Input(_))));
    assert!(matches!(unet.time_graph(0), Err(Error::Input(_))));
    let mut b = Builder::new();
    let sample = b.input("sample", [1, 4, 4, 4], DType::F32).unwrap();
    let time = b.input("time", [1, unet.time_width()], DType::F32).unwrap();
    let error = unet.denoise(&mut b, sample, time, &[], &Taps::none()).unwrap_err().to_string();
    assert!(error.contains("keys and values for 0 attentions of 4"), "{error}");
    let short = b.input("short", [1, 3], DType::F32).unwrap();
    let error = unet.denoise(&mut b, sample, short, &[], &Taps::none()).unwrap_err().to_string();
    assert!(error.contains("should have rows of"), "{error}");
}
