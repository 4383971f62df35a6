//! The binary from outside: right answers, and one plain sentence for everything that is wrong. No test needs a GPU.

mod common;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{DynamicImage, ImageFormat};
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;

use common::{refused, run, stdout, text};

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits-vit")
}

fn sample(name: &str) -> String {
    digits().join("samples").join(name).to_string_lossy().into_owned()
}

/// A copy of the bundled model to damage.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(digits().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn refuses_model(folder: &TempDir, parts: &[&str]) {
    refused(&["classify", text(folder.path()), &sample("digit-1621-one.png"), "--device", "cpu"], parts);
}

#[test]
fn the_bundled_samples_are_read_right() {
    let samples = digits().join("samples");
    let output = run(&["classify", "digits", text(&samples), "--device", "cpu", "--json", "--top-k", "3"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 10);
    for result in results {
        let (picture, top) = (result["picture"].as_str().unwrap(), result["top"].as_array().unwrap());
        let label = top[0]["label"].as_str().unwrap();
        assert!(picture.ends_with(&format!("-{label}.png")), "{picture} is no {label}");
        let p: Vec<f64> = top.iter().map(|row| row["probability"].as_f64().unwrap()).collect();
        assert!(p.len() == 3 && p[0] >= p[1] && p[1] >= p[2] && p.iter().sum::<f64>() <= 1.0 + 1e-9);
    }
}

#[test]
fn patterns_and_precisions_are_taken() {
    let pattern = sample("digit-162[01]-*.png");
    let folder = digits();
    let output =
        run(&["classify", text(&folder), &pattern, "--device", "cpu", "--precision", "f16", "--top-k", "1"]);
    assert_eq!(output.status.code(), Some(0));
    let lines = stdout(&output);
    let labels: Vec<&str> = lines.lines().filter_map(|line| line.split_once("%  ")).map(|l| l.1).collect();
    assert_eq!(labels, ["zero", "one"]);
}

#[test]
fn models_that_are_none_are_refused() {
    let one = sample("digit-1621-one.png");
    refused(&["classify", "no/such/folder", &one, "--device", "cpu"], &["no/such/folder", "no folder"]);
    refused(&["classify", &one, &one, "--device", "cpu"], &["digit-1621-one.png", "is a file"]);
    let empty = tempfile::tempdir().unwrap();
    refuses_model(&empty, &["config.json", text(empty.path())]);
    let other = copy();
    std::fs::write(other.path().join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    refuses_model(&other, &["\"bert\"", "config.json"]);
    std::fs::write(other.path().join("config.json"), "{\"model_type\": ").unwrap();
    refuses_model(&other, &["config.json", "JSON"]);
    std::fs::write(other.path().join("config.json"), r#"{"model_type": "vit", "hidden_size": -1}"#).unwrap();
    refuses_model(&other, &["hidden_size", "-1"]);
    let bare = copy();
    std::fs::remove_file(bare.path().join("model.safetensors")).unwrap();
    refuses_model(&bare, &["model.safetensors"]);
    std::fs::write(bare.path().join("pytorch_model.bin"), b"pickle").unwrap();
    refuses_model(&bare, &["pytorch_model.bin", "pickle", "safetensors"]);
    let strange = copy();
    std::fs::write(strange.path().join("preprocessor_config.json"), r#"{"size": {"height": 0}}"#).unwrap();
    refuses_model(&strange, &["size"]);
}

#[test]
fn hub_models_that_cannot_be_had_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let one = sample("digit-1621-one.png");
    for (model, part) in
        [("hub:owner/name", "hub:owner/name"), ("hub:no-owner", "owner/name"), ("hub:", "owner/name")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
            .args(["classify", model, &one, "--device", "cpu"])
            // A port that nobody listens on.
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("HF_HOME", cache.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(part), "{stderr}");
    }
}

/// Rewrites a safetensors file: its header as JSON and the bytes after it.
fn rewrite(folder: &TempDir, change: impl FnOnce(&mut Map<String, Json>, &mut Vec<u8>)) {
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Json> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    std::fs::write(&path, file).unwrap();
}

#[test]
fn damaged_weight_files_are_refused() {
    let whole = std::fs::read(digits().join("model.safetensors")).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let folder = copy();
        std::fs::write(folder.path().join("model.safetensors"), &whole[..length]).unwrap();
        refuses_model(&folder, &["model.safetensors"]);
    }
    for claim in [u64::MAX, 1 << 40, 200 << 20, whole.len() as u64] {
        let folder = copy();
        let file = [&claim.to_le_bytes(), &whole[8..]].concat();
        std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
        refuses_model(&folder, &["model.safetensors", "header"]);
    }
    let folder = copy();
    std::fs::write(folder.path().join("model.safetensors"), [&whole[..], b"more"].concat()).unwrap();
    refuses_model(&folder, &["model.safetensors"]);
    let folder = copy();
    rewrite(&folder, |header, _| {
        let other = header["classifier.bias"]["data_offsets"].clone();
        header["vit.layernorm.bias"]["data_offsets"] = other;
    });
    refuses_model(&folder, &["model.safetensors"]);
    let folder = copy();
    rewrite(&folder, |header, data| {
        // Everything a byte further: no tensor is aligned any more.
        for (_, tensor) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
            let offsets = tensor["data_offsets"].as_array().unwrap().clone();
            tensor["data_offsets"] =
                json!(offsets.iter().map(|offset| offset.as_u64().unwrap() + 1).collect::<Vec<_>>());
        }
        data.insert(0, 0);
    });
    refuses_model(&folder, &["model.safetensors"]);
}

#[test]
fn weights_of_another_model_are_refused_by_name() {
    let folder = copy();
    rewrite(&folder, |header, _| {
        let tensor = header.remove("vit.layernorm.bias").unwrap();
        header.insert("vit.layernorm.bios".into(), tensor);
    });
    refuses_model(&folder, &["missing: vit.layernorm.bias", "unused: vit.layernorm.bios"]);
    let folder = copy();
    rewrite(&folder, |header, _| {
        header["vit.encoder.layer.0.intermediate.dense.bias"]["shape"] = json!([2, 144]);
    });
    refuses_model(&folder, &["vit.encoder.layer.0.intermediate.dense.bias", "[2, 144]", "[288]"]);
    let folder = copy();
    rewrite(&folder, |header, data| {
        let at = header["vit.layernorm.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
        data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    refuses_model(&folder, &["vit.layernorm.weight", "NaN"]);
}

/// The model without its weights, but with a recipe for all of them except `left_out`.
fn by_recipe(left_out: &str) -> TempDir {
    let folder = copy();
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Json> = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__" && *name != left_out);
    let weights: Vec<Json> = tensors
        .map(|(name, about)| json!({"name": name, "shape": about["shape"], "scale": 0.1, "offset": 0.0}))
        .collect();
    let manifest = json!({"case": "t", "seed": 1, "weights": {"model.safetensors": weights}});
    std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
    folder
}

#[test]
fn weights_may_be_made_by_a_recipe() {
    let folder = by_recipe("");
    let picture = sample("digit-1621-one.png");
    let output = run(&["classify", text(folder.path()), &picture, "--device", "cpu", "--json"]);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["results"][0]["top"].as_array().unwrap().len(), 5);
    // What computes nothing has its times and its memory too.
    let shown = stdout(&run(&["profile", text(folder.path()), "--adapter", "noop"]));
    for part in
        ["compiled in", "packing and upload", "in products (matmul): the whole takes", "are alive at once"]
    {
        assert!(shown.contains(part), "{part:?} is missing: {shown}");
    }
    refuses_model(&by_recipe("classifier.bias"), &["manifest.json", "missing: classifier.bias"]);
    std::fs::write(folder.path().join("manifest.json"), "{").unwrap();
    refuses_model(&folder, &["manifest.json", "no JSON"]);
}

#[test]
fn a_unet_is_profiled_on_latents() {
    let unet = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/unet/linear");
    let shown = stdout(&run(&["profile", unet, "--batch", "2", "--adapter", "noop"]));
    for part in ["[2, 12, 12, 4]", "scaled_dot_product_attention", "[2, 77, 16]", "are alive at once"] {
        assert!(shown.contains(part), "{part:?} is missing: {shown}");
    }
    refused(&["profile", unet, "--batch", "0", "--adapter", "noop"], &["nothing to denoise"]);
    let picture = sample("digit-1621-one.png");
    refused(&["profile", unet, &picture, "--adapter", "noop"], &["random input, not on pictures"]);
    refused(&["profile", "digits", "--batch", "2", "--adapter", "noop"], &["digits is no UNet"]);
}

#[test]
fn an_autoencoder_is_profiled_on_latents() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/autoencoder/kl");
    let shown = stdout(&run(&["profile", model, "--batch", "2", "--adapter", "noop"]));
    for part in ["[2, 64, 64, 8]", "group_norm", "are alive at once"] {
        assert!(shown.contains(part), "{part:?} is missing: {shown}");
    }
}

#[test]
fn a_transformer_is_profiled_on_its_next_token() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gpt/mingpt");
    for (model, part) in [(model, "[2, 1, 32]"), ("glyphs", "[2, 1, 160]")] {
        let shown = stdout(&run(&["profile", model, "--batch", "2", "--adapter", "noop"]));
        for part in [part, "cache_append", "are alive at once"] {
            assert!(shown.contains(part), "{part:?} is missing: {shown}");
        }
    }
}

/// A JPEG's bytes with an EXIF orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut file = jpeg[..2].to_vec();
    file.extend([0xFF, 0xE1]);
    file.extend((exif.len() as u16 + 2).to_be_bytes());
    file.extend(exif);
    file.extend(&jpeg[2..]);
    file
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn pictures_of_every_kind_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let seven = image::open(sample("digit-1622-seven.png")).unwrap();
    let stored = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures").join(name);
    let pictures = [
        (file("grey.png", encode(&seven.to_luma8().into(), ImageFormat::Png)), "seven"),
        (file("deep.png", encode(&seven.to_rgb16().into(), ImageFormat::Png)), "seven"),
        (file("alpha.png", encode(&seven.to_rgba8().into(), ImageFormat::Png)), "seven"),
        (file("wide.bmp", encode(&seven.to_rgb8().into(), ImageFormat::Bmp)), "seven"),
        (
            // Stored on its side: orientation 6 turns it upright.
            file("turned.jpg", {
                let side = DynamicImage::from(seven.rotate270().to_luma8());
                with_orientation(&encode(&side, ImageFormat::Jpeg), 6)
            }),
            "seven",
        ),
        (stored("one-cmyk.jpg").to_string_lossy().into_owned(), "one"),
        (stored("one-palette.png").to_string_lossy().into_owned(), "one"),
    ];
    let mut arguments = vec!["classify", "digits", "--device", "cpu", "--json"];
    arguments.extend(pictures.iter().map(|(path, _)| path.as_str()));
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    for (result, (path, label)) in report["results"].as_array().unwrap().iter().zip(&pictures) {
        assert_eq!(result["top"][0]["label"], json!(label), "{path}");
    }
}

#[test]
fn bad_pictures_are_refused_by_name_and_the_others_answered() {
    let folder = tempfile::tempdir().unwrap();
    let one = std::fs::read(sample("digit-1621-one.png")).unwrap();
    let bad = [
        ("truncated.png", one[..one.len() / 2].to_vec()),
        ("empty.png", Vec::new()),
        ("text.png", b"this is no picture".to_vec()),
        ("huge.bmp", {
            let mut bmp = b"BM\x64\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
            bmp.extend(60_000u32.to_le_bytes());
            bmp.extend(60_000u32.to_le_bytes());
            bmp.extend([1, 0, 24, 0]);
            bmp.extend([0; 24]);
            bmp
        }),
    ];
    for (name, bytes) in &bad {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        refused(&["classify", "digits", text(&path), "--device", "cpu"], &[name]);
    }
    refused(&["classify", "digits", "no/such.png", "--device", "cpu"], &["no/such.png"]);
    refused(&["classify", "digits", "no/such/*.png", "--device", "cpu"], &["no/such/*.png"]);
    std::fs::write(folder.path().join("good.png"), &one).unwrap();
    let output = run(&["classify", "digits", text(folder.path()), "--device", "cpu", "--top-k", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr.lines().count(), bad.len(), "{stderr}");
    let lines = stdout(&output);
    assert!(lines.contains("good.png") && lines.contains("one"), "{lines}");
}

#[test]
fn output_files_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.png");
    let one = sample("digit-1621-one.png");
    let (map, left) = (text(&map), || std::fs::read_dir(folder.path()).unwrap().count());
    refused(&["classify", "no/such", &one, "--device", "cpu", "--attention", map], &["no/such"]);
    assert_eq!(left(), 0);
    refused(&["classify", "digits", "no.png", "--device", "cpu", "--attention", map], &["no.png"]);
    assert_eq!(left(), 0);
    refused(
        &["classify", "digits", &one, "--device", "cpu", "--attention", "no/such/map.png"],
        &["no/such/map.png"],
    );
    let output = run(&["classify", "digits", &one, "--device", "cpu", "--attention", map]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(left(), 1);
    let picture = image::open(map).unwrap();
    assert!(picture.width() >= 320 && picture.height() >= 320);
}

#[test]
fn the_demo_runs_without_a_gpu_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let output = run(&["demo", "--device", "cpu", "--out", text(&out)]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    assert!(lines.contains("CPU reference") && lines.contains("10 of 10 right"), "{lines}");
    assert!(lines.contains("digits found where they are"), "{lines}");
    assert!(lines.contains("of 10 show the digit and the colour"), "{lines}");
    let gallery = image::open(out.join("gallery.png")).unwrap();
    assert!(gallery.width() > 800);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 40);
}

#[test]
fn a_device_that_computes_nothing_fails_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = run(&["check", "--op", "softmax", "--adapter", "noop", "--quiet", "--json", text(&report)]);
    assert_eq!(output.status.code(), Some(1));
    let lines = stdout(&output);
    assert!(lines.contains("kiln check --case 'softmax/"), "{lines}");
    let report: Json = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let cases = report["runs"][0]["cases"].as_array().unwrap();
    let count = |outcome: &str| cases.iter().filter(|case| case["outcome"] == outcome).count();
    let last =
        format!("{} passed, {} failed, {} skipped", count("passed"), count("failed"), count("skipped"));
    assert_eq!(lines.lines().last(), Some(last.as_str()));
    assert!(count("failed") > 10);
    assert!(report["runs"][0]["adapter"]["name"].is_string());
    assert_eq!(report["runs"][0]["features"]["f16"], json!(true));
    // Without f16 the cases that need it are skipped, each with its reason.
    let output =
        run(&["check", "--op", "softmax", "--adapter", "noop", "--disable", "f16", "--dtype", "f16"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).lines().filter(|line| line.starts_with("skip ")).all(|line| line.contains("f16"))
    );
}

#[test]
fn the_check_lists_what_it_covers_without_a_device() {
    let output = run(&["check", "--list", "--device", "cpu"]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0));
    assert!(lines.contains("matmul") && lines.contains("conv2d") && lines.contains("softmax"), "{lines}");
    let ids = stdout(&run(&["check", "--list", "--op", "softmax"]));
    assert!(ids.lines().filter(|line| line.starts_with("softmax/")).count() > 10);
}

#[test]
fn bad_usage_is_refused() {
    refused(&["devices", "--disable", "f17"], &["f17", "subgroups"]);
    refused(&["check", "--op", "softmex"], &["softmex", "softmax"]);
    refused(&["check", "--case", "softmax/none@f32"], &["softmax/none@f32"]);
    refused(&["check", "--op", "softmax", "--adapter", "noop", "--launch", "fast"], &["fast"]);
    refused(&["check", "--device", "cpu"], &["--device cpu"]);
    refused(
        &["check", "--op", "softmax", "--adapter", "noop", "--json", "no/such/report.json"],
        &["no/such/report.json"],
    );
    refused(&["bench", "--op", "softmex", "--adapter", "noop"], &["softmex"]);
    refused(&["profile", "digits", "--device", "cpu"], &["--device cpu"]);
    refused(&["verify", "no/such/folder", "--device", "cpu"], &["no/such/folder"]);
    let one = sample("digit-1621-one.png");
    let f16 = ["classify", "digits", &one, "--adapter", "noop", "--disable", "f16", "--precision", "f16"];
    refused(&f16, &["f16", "16-bit"]);
    assert_eq!(run(&["classify", "digits"]).status.code(), Some(2));
    assert_eq!(run(&["classify", "digits", &one, "--top-k", "0"]).status.code(), Some(2));
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
}
