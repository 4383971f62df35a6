//! What `kiln verify` says of right, wrong and unknown tensors.

use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::random::SplitMix64;
use kiln_models::Taps;
use kiln_models::verify::{Device, Gates, Options, Row, Verdict, VerifyError, verify};
use kiln_models::vit::{Config, Vit};
use kiln_models::weights::{Memory, Recipe};
use serde_json::{Value as Json, json};

/// A safetensors file of f32 tensors.
fn file(tensors: &[(&str, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(
            name.to_string(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&Json::Object(header)).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn rows(files: Memory, precision: Precision, layers: bool) -> Result<Vec<Row>, VerifyError> {
    let options = Options { device: Device::Cpu, precision, gates: Gates::default(), layers };
    let mut rows = Vec::new();
    pollster::block_on(verify(Arc::new(files), &options, &mut |row| rows.push(row)))?;
    Ok(rows)
}

fn op_case(op: &str, a: f32, y: f32) -> Memory {
    let config = json!({"op": op, "cases": [{"id": "c0", "params": {},
        "inputs": {"a": [1, 1], "b": [1, 1]}, "outputs": {"y": {"shape": [1, 1]}}}]});
    let mut files = Memory::new();
    files.insert("config.json", serde_json::to_vec(&config).unwrap());
    let one = |name, value| (name, vec![1, 1], vec![value]);
    files.insert("inputs.safetensors", file(&[one("c0.a", a), one("c0.b", 3.0)]));
    files.insert("expected.safetensors", file(&[one("c0.y", y)]));
    files
}

fn verdict(files: Memory, precision: Precision) -> Verdict {
    rows(files, precision, false).unwrap().remove(0).verdict
}

#[test]
fn single_ops_pass_fail_or_are_not_compared() {
    assert_eq!(verdict(op_case("matmul", 2.0, 6.0), Precision::F32), Verdict::Passed);
    assert!(matches!(verdict(op_case("matmul", 2.0, 7.0), Precision::F32), Verdict::Failed(_)));
    assert!(matches!(verdict(op_case("mystery", 2.0, 6.0), Precision::F32), Verdict::NotCompared(_)));
}

#[test]
fn what_f16_cannot_hold_is_out_of_range() {
    assert_eq!(verdict(op_case("matmul", 2.0, 6.0), Precision::F16), Verdict::Passed);
    let beyond = verdict(op_case("matmul", 30000.0, 90000.0), Precision::F16);
    assert!(matches!(beyond, Verdict::OutOfRange(_)), "{beyond:?}");
    let rounded_away = verdict(op_case("matmul", 1e-9, 3e-9), Precision::F16);
    assert!(matches!(rounded_away, Verdict::OutOfRange(_)), "{rounded_away:?}");
}

/// A tiny ViT whose weights come by recipe, with what it gives for two image sizes, the larger one sampled.
fn vit_case(layer0_shift: f32) -> Memory {
    let config = json!({"model_type": "vit", "architectures": ["ViTForImageClassification"],
        "image_size": 8, "patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 12, "id2label": {"0": "a", "1": "b", "2": "c"}});
    let shapes = [
        ("classifier.bias", vec![3]),
        ("classifier.weight", vec![3, 8]),
        ("vit.embeddings.cls_token", vec![1, 1, 8]),
        ("vit.embeddings.patch_embeddings.projection.bias", vec![8]),
        ("vit.embeddings.patch_embeddings.projection.weight", vec![8, 3, 4, 4]),
        ("vit.embeddings.position_embeddings", vec![1, 5, 8]),
        ("vit.encoder.layer.0.attention.attention.key.bias", vec![8]),
        ("vit.encoder.layer.0.attention.attention.key.weight", vec![8, 8]),
        ("vit.encoder.layer.0.attention.attention.query.bias", vec![8]),
        ("vit.encoder.layer.0.attention.attention.query.weight", vec![8, 8]),
        ("vit.encoder.layer.0.attention.attention.value.bias", vec![8]),
        ("vit.encoder.layer.0.attention.attention.value.weight", vec![8, 8]),
        ("vit.encoder.layer.0.attention.output.dense.bias", vec![8]),
        ("vit.encoder.layer.0.attention.output.dense.weight", vec![8, 8]),
        ("vit.encoder.layer.0.intermediate.dense.bias", vec![12]),
        ("vit.encoder.layer.0.intermediate.dense.weight", vec![12, 8]),
        ("vit.encoder.layer.0.layernorm_after.bias", vec![8]),
        ("vit.encoder.layer.0.layernorm_after.weight", vec![8]),
        ("vit.encoder.layer.0.layernorm_before.bias", vec![8]),
        ("vit.encoder.layer.0.layernorm_before.weight", vec![8]),
        ("vit.encoder.layer.0.output.dense.bias", vec![8]),
        ("vit.encoder.layer.0.output.dense.weight", vec![8, 12]),
        ("vit.layernorm.bias", vec![8]),
        ("vit.layernorm.weight", vec![8]),
    ];
    let weights: Vec<Json> = shapes
        .iter()
        .map(|(name, shape)| json!({"kind": "uniform", "name": name, "shape": shape, "scale": 0.4, "offset": 0.1}))
        .collect();
    let mut manifest =
        json!({"case": "t", "seed": 1, "weights": {"model.safetensors": weights}, "expected": {}});

    let recipe = Recipe::from_manifest(&manifest, "model.safetensors", "manifest.json").unwrap();
    let vit = Vit::new(Config::from_json(&config).unwrap(), &recipe).unwrap();
    let mut given = Vec::new();
    let mut expected = Vec::new();
    for (suffix, h, w) in [("", 8, 8), ("_wide", 8, 12)] {
        let random = SplitMix64::named(suffix);
        let pixels: Vec<f32> = (0..3 * h * w).map(|i| random.affine(i as u64, 1.0, 0.0)).collect();
        // Channels first on disk, last in the graph.
        let inside: Vec<f32> = (0..3 * h * w).map(|i| pixels[i % 3 * h * w + i / 3]).collect();
        let graph = vit.graph(1, [h, w], &Taps::of(["layer0"])).unwrap();
        let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
        let tensor = kiln_graph::Tensor::f32([1, h, w, 3], inside).unwrap();
        let mut interpreter = kiln_graph::Interpreter::new(graph, &recipe).unwrap();
        for (name, output) in names.iter().zip(interpreter.run(&[("pixel_values", tensor)]).unwrap()) {
            let mut values = output.to_f32().into_owned();
            let mut shape = output.shape().to_vec();
            if name == "mid.layer0" {
                let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
                let about = json!({"shape": shape, "sample_stride": 3,
                    "f64_sum": values.iter().map(|&v| f64::from(v)).sum::<f64>() + f64::from(layer0_shift),
                    "rms": (squares / values.len() as f64).sqrt()});
                manifest["expected"][format!("{name}{suffix}")] = about;
                values = values.into_iter().step_by(3).collect();
                shape = vec![values.len()];
            }
            let prefix = if name.starts_with("mid.") { "" } else { "out." };
            expected.push((format!("{prefix}{name}{suffix}"), shape, values));
        }
        given.push((format!("pixel_values{suffix}"), vec![1, 3, h, w], pixels));
    }
    let named = |list: &[(String, Vec<usize>, Vec<f32>)]| {
        let list: Vec<_> = list.iter().map(|(n, s, v)| (n.as_str(), s.clone(), v.clone())).collect();
        file(&list)
    };
    let mut files = Memory::new();
    files.insert("config.json", serde_json::to_vec(&config).unwrap());
    files.insert("manifest.json", serde_json::to_vec(&manifest).unwrap());
    files.insert("inputs.safetensors", named(&given));
    files.insert("expected.safetensors", named(&expected));
    files
}

#[test]
fn models_run_once_a_suffix_with_weights_by_recipe() {
    let rows = rows(vit_case(0.0), Precision::F32, false).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["out.logits", "out.logits_wide"]);
    assert!(rows.iter().all(|row| row.verdict == Verdict::Passed), "{rows:?}");
}

#[test]
fn sampled_layers_are_compared_by_samples_and_sum() {
    let passed = rows(vit_case(0.0), Precision::F32, true).unwrap();
    assert_eq!(passed.len(), 4);
    assert!(passed.iter().all(|row| row.verdict == Verdict::Passed), "{passed:?}");
    let shifted = rows(vit_case(0.1), Precision::F32, true).unwrap();
    for row in &shifted {
        let wrong = matches!(&row.verdict, Verdict::Failed(reason) if reason.contains("sum"));
        assert_eq!(wrong, row.name.starts_with("mid."), "{row:?}");
    }
}

#[test]
fn f16_storage_passes_its_own_gate_and_fails_that_of_f32() {
    let rows = rows(vit_case(0.0), Precision::F16, true).unwrap();
    assert!(rows.iter().all(|row| row.verdict == Verdict::Passed), "{rows:?}");
    assert!(rows.iter().any(|row| row.comparison.as_ref().unwrap().nmse > 1e-9), "{rows:?}");
}

#[test]
fn unknown_models_and_missing_files_are_named() {
    let mut files = vit_case(0.0);
    files.insert("config.json", br#"{"model_type": "mystery"}"#.to_vec());
    let error = rows(files, Precision::F32, false).unwrap_err();
    assert!(matches!(&error, VerifyError::Unsupported(reason) if reason.contains("mystery")), "{error}");
    let error = rows(Memory::new(), Precision::F32, false).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}
