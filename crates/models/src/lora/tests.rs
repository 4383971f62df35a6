use std::collections::HashMap;
use std::sync::Arc;

use kiln_graph::{Tensor, WeightSource};

use super::*;
use crate::weights::{Memory, SharedWeights};

/// A tensor's name, shape and values.
type Entry<'a> = (&'a str, &'a [usize], &'a [f32]);

fn file(tensors: &[Entry], metadata: Option<&str>) -> Arc<dyn Files> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    if let Some(metadata) = metadata {
        header.insert("__metadata__".into(), serde_json::json!({"lora_adapter_metadata": metadata}));
    }
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.to_string(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut memory = Memory::new();
    memory.insert("l.safetensors", [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat());
    Arc::new(memory)
}

fn open(tensors: &[Entry], scale: f32) -> Result<Lora, String> {
    Lora::open(&file(tensors, None), "l.safetensors", scale).map_err(|error| error.to_string())
}

/// A UNet of two weights: a linear layer and a convolution.
fn unet() -> SharedWeights {
    let ones = |shape: &[usize]| Tensor::f32(shape, vec![1.0; shape.iter().product()]).unwrap();
    Arc::new(HashMap::from([
        ("mid_block.to_q.weight".to_string(), ones(&[2, 3])),
        ("mid_block.conv1.weight".to_string(), ones(&[2, 1, 1, 3])),
        ("mid_block.conv1.bias".to_string(), ones(&[2])),
    ]))
}

fn merged(tensors: &[Entry], scale: f32) -> Result<Merged, String> {
    Merged::unet(unet(), &[open(tensors, scale)?]).map_err(|error| error.to_string())
}

const DOWN: &str = "unet.mid_block.to_q.lora.down.weight";
const UP: &str = "unet.mid_block.to_q.lora.up.weight";

#[test]
fn the_product_is_scaled_by_alpha_over_the_rank() {
    let tensors: [Entry; 3] = [
        (DOWN, &[2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]),
        (UP, &[2, 2], &[1.0, 0.0, 1.0, 1.0]),
        ("unet.mid_block.to_q.alpha", &[], &[4.0]),
    ];
    let load = |tensors: &[Entry], scale: f32| {
        merged(tensors, scale).unwrap().load("mid_block.to_q.weight").unwrap().to_f32().into_owned()
    };
    assert_eq!(load(&tensors, 0.5), [2.0, 3.0, 4.0, 12.0, 23.0, 34.0]);
    // Without an alpha the product is as it is.
    assert_eq!(load(&tensors[..2], 1.0), [2.0, 3.0, 4.0, 12.0, 23.0, 34.0]);
    let untouched = merged(&tensors, 0.5).unwrap().load("mid_block.conv1.weight").unwrap();
    assert_eq!(untouched.to_f32(), [1.0; 6].as_slice());
}

#[test]
fn a_middle_makes_a_convolution_of_two_small_ones() {
    // As LyCORIS: up [out, a], mid [a, b, h, w], down [b, in].
    let name = |kind: &str| format!("lora_unet_mid_block_conv1.lora_{kind}.weight");
    let (down, mid, up) = (name("down"), name("mid"), name("up"));
    let tensors: [Entry; 3] = [
        (&down, &[2, 1, 1, 1], &[1.0, 10.0]),
        (&mid, &[1, 2, 1, 3], &[1.0, 2.0, 3.0, 1.0, 1.0, 1.0]),
        (&up, &[2, 1, 1, 1], &[1.0, -1.0]),
    ];
    let weight = merged(&tensors, 1.0).unwrap().load("mid_block.conv1.weight").unwrap();
    assert_eq!(weight.to_f32(), [12.0, 13.0, 14.0, -10.0, -11.0, -12.0].as_slice());
    let error =
        merged(&[tensors[0], (&mid, &[2, 2, 1, 3], &[0.0; 12]), tensors[2]], 1.0).map(|_| ()).unwrap_err();
    assert!(error.contains("lora_mid") && error.contains("[2, 2, 1, 3]"), "{error}");
}

#[test]
fn alphas_may_stand_in_the_metadata() {
    let tensors: [Entry; 2] = [(DOWN, &[4, 3], &[1.0; 12]), (UP, &[2, 4], &[1.0; 8])];
    let load = |metadata: &str| {
        let lora = Lora::open(&file(&tensors, Some(metadata)), "l.safetensors", 1.0)
            .map_err(|error| error.to_string())?;
        let merged = Merged::unet(unet(), &[lora]).map_err(|error| error.to_string())?;
        Ok::<_, String>(merged.load("mid_block.to_q.weight").unwrap().to_f32()[0])
    };
    assert_eq!(load("{}"), Ok(5.0));
    assert_eq!(load(r#"{"unet.lora_alpha": 2, "text_encoder.lora_alpha": 100}"#), Ok(3.0));
    assert_eq!(load(r#"{"unet.lora_alpha": 2, "unet.use_rslora": true}"#), Ok(5.0));
    assert_eq!(load(r#"{"unet.lora_alpha": 2, "unet.alpha_pattern": {"o_q": 9, "to_q": 8}}"#), Ok(9.0));
    assert!(load(r#"{"unet.use_dora": true}"#).unwrap_err().contains("a DoRA"));
    assert!(
        load(r#"{"unet.lora_alpha": "x"}"#).unwrap_err().contains("lora_adapter_metadata has an alpha of")
    );
    assert!(load("{").unwrap_err().contains("lora_adapter_metadata cannot be read"));
}

#[test]
fn one_for_another_model_is_refused_by_its_first_tensor() {
    let refused = |tensors: &[Entry], sentence: &str| {
        assert_eq!(merged(tensors, 1.0).map(|_| ()).unwrap_err(), sentence);
    };
    let other = ["unet.up_block.to_q.lora.down.weight", "unet.up_block.to_q.lora.up.weight"];
    refused(
        &[(other[0], &[1, 3], &[0.0; 3]), (other[1], &[2, 1], &[0.0; 2])],
        "l.safetensors is for another model: tensor \"unet.up_block.to_q.lora.down.weight\" fits no weight of the weights",
    );
    refused(
        &[(DOWN, &[1, 4], &[0.0; 4]), (UP, &[2, 1], &[0.0; 2])],
        "l.safetensors is for another model: tensor \"unet.mid_block.to_q.lora.down.weight\" has shape [1, 4], and \
         mid_block.to_q.weight has [2, 3]",
    );
    refused(
        &[(DOWN, &[1, 3], &[0.0; 3]), (UP, &[3, 1], &[0.0; 3])],
        "l.safetensors is for another model: tensor \"unet.mid_block.to_q.lora.up.weight\" has shape [3, 1], and \
         mid_block.to_q.weight has [2, 3]",
    );
    refused(
        &[(DOWN, &[2, 3], &[0.0; 6]), (UP, &[2, 1], &[0.0; 2])],
        "l.safetensors is for another model: tensor \"unet.mid_block.to_q.lora.up.weight\" has shape [2, 1], and \
         unet.mid_block.to_q.lora.down.weight has [2, 3]",
    );
    refused(
        &[(DOWN, &[1, 3, 3, 3], &[0.0; 27]), (UP, &[2, 1, 1, 1], &[0.0; 2])],
        "l.safetensors is for another model: tensor \"unet.mid_block.to_q.lora.down.weight\" has shape [1, 3, 3, 3], and \
         mid_block.to_q.weight has [2, 3]",
    );
    let second = ["lora_te2_x.lora_down.weight", "lora_te2_x.lora_up.weight"];
    refused(
        &[(second[0], &[1, 3], &[0.0; 3]), (second[1], &[2, 1], &[0.0; 2])],
        "l.safetensors is for another model: tensor \"lora_te2_x.lora_down.weight\" fits no weight of the weights",
    );
    // No rank, no axes.
    for (down, up) in [(&[0, 3][..], &[2, 0][..]), (&[3], &[2, 1]), (&[], &[])] {
        let zeros = [0.0; 8];
        let len = |shape: &[usize]| shape.iter().product::<usize>();
        let error = merged(&[(DOWN, down, &zeros[..len(down)]), (UP, up, &zeros[..len(up)])], 1.0);
        assert!(error.map(|_| ()).unwrap_err().contains("is for another model"));
    }
}

#[test]
fn a_linear_layer_is_a_convolution_of_one_pixel() {
    let tensors: [Entry; 2] = [(DOWN, &[1, 3, 1, 1], &[1.0, 2.0, 3.0]), (UP, &[2, 1, 1, 1], &[1.0, 2.0])];
    let weight = merged(&tensors, 1.0).unwrap().load("mid_block.to_q.weight").unwrap();
    assert_eq!(weight.to_f32(), [2.0, 3.0, 4.0, 3.0, 5.0, 7.0].as_slice());
    assert_eq!(weight.shape(), [2, 3]);
}

#[test]
fn bad_files_are_refused_in_one_sentence() {
    let (down, up): (Entry, Entry) = ((DOWN, &[1, 3], &[0.0; 3]), (UP, &[2, 1], &[0.0; 2]));
    let cases: [(&[Entry], f32, &str); 9] = [
        (&[], 1.0, "it holds no tensor"),
        (&[down, up], f32::NAN, "a scale of NaN"),
        (&[down, up], f32::INFINITY, "a scale of inf"),
        (&[down], 1.0, "mid_block.to_q has not both"),
        (&[up], 1.0, "mid_block.to_q has not both"),
        (&[down, up, ("unet.mid_block.to_q.alpha", &[2], &[1.0; 2])], 1.0, "is not one finite number"),
        (&[down, up, ("unet.mid_block.to_q.alpha", &[], &[f32::INFINITY])], 1.0, "is not one finite number"),
        (
            &[down, up, ("lora_unet_x.dora_scale", &[1], &[1.0])],
            1.0,
            "\"lora_unet_x.dora_scale\" is part of a DoRA",
        ),
        (&[down, up, ("cond_stage_model.x", &[1], &[1.0])], 1.0, "\"cond_stage_model.x\" is part of no LoRA"),
    ];
    for (tensors, scale, reason) in cases {
        let error = open(tensors, scale).map(|_| ()).unwrap_err();
        assert!(
            error.contains(reason) && error.contains("l.safetensors") && !error.contains('\n'),
            "{error}"
        );
    }
    // Numbers are looked at when they are read.
    let nan = merged(&[(DOWN, &[1, 3], &[f32::NAN; 3]), up], 1.0).unwrap();
    let error = nan.load("mid_block.to_q.weight").unwrap_err().to_string();
    assert!(error.contains("cannot be merged") && error.contains("NaN"), "{error}");
    let error = Lora::open(&file(&[], None), "other.safetensors", 1.0).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("other.safetensors"), "{error}");
}

#[test]
fn modules_are_found_by_every_name() {
    let weight = |name: &str| (name.to_string(), Tensor::f32([2, 3], vec![1.0; 6]).unwrap());
    let changes = |lora: &str, merge: &dyn Fn(&[Lora]) -> Result<Merged, LoraError>| {
        let [down, up] = ["down", "up"].map(|kind| format!("{lora}.lora_{kind}.weight"));
        let lora = open(&[(&down, &[1, 3], &[1.0; 3]), (&up, &[2, 1], &[1.0; 2])], 1.0).unwrap();
        merge(&[lora]).is_ok_and(|merged| merged.changed() == 1)
    };
    let name = "mid_block.attentions.0.proj_in.weight";
    let unet: SharedWeights = Arc::new(HashMap::from([weight(name)]));
    let merge = |loras: &[Lora]| Merged::unet(unet.clone(), loras);
    for lora in [
        "lora_unet_mid_block_attentions_0_proj_in",
        "lora_unet_middle_block_1_proj_in",
        "diffusion_model.middle_block.1.proj_in",
        "unet.mid_block.attentions.0.proj_in",
        "base_model.model.mid_block.attentions.0.proj_in",
    ] {
        assert!(changes(lora, &merge), "{lora}");
    }
    assert!(!changes("unet.mid_block.attentions.1.proj_in", &merge));
    // Text encoders' files have either prefix, and so have LoRAs.
    for prefix in ["", "text_model."] {
        let name = format!("{prefix}encoder.layers.0.mlp.fc1.weight");
        let text: SharedWeights = Arc::new(HashMap::from([weight(&name)]));
        let merge = |loras: &[Lora]| Merged::text(text.clone(), loras);
        for lora in [
            "lora_te_text_model_encoder_layers_0_mlp_fc1",
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            "text_encoder.text_model.encoder.layers.0.mlp.fc1",
            "text_encoder.encoder.layers.0.mlp.fc1",
        ] {
            assert!(changes(lora, &merge), "{lora} in {name}");
        }
    }
}
