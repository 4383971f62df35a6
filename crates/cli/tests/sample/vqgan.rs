//! VQGAN's two stages.

use std::collections::BTreeMap;
use std::path::Path;

use kiln::engine::Precision;
use kiln::graph::sampling::Sampling;
use kiln::models::vqgan::{Completion, Condition, Request};
use kiln::models::{Device, Vqgan};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::common::text;
use super::{fixture, names, picture, read, sample, sample_refused};

/// Codes that the first stage knows, those of a picture, and the transformer's width.
const CODES: usize = 37;
const PLACES: usize = 64;
const WIDTH: usize = 12;

/// A folder of a model of two stages that knows six classes, with weights by recipe.
fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> Json {
        let path = fixture("vq_model/original").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let first = file("manifest.json")["weights"]["model.safetensors"].clone();
    let mut weights: Vec<Json> = serde_json::from_value(first).unwrap();
    for entry in &mut weights {
        entry["name"] = format!("first_stage_model.{}", entry["name"].as_str().unwrap()).into();
    }
    for (name, shape) in transformer() {
        let entry =
            json!({"name": format!("transformer.{name}"), "shape": shape, "scale": 0.5, "offset": 0.0});
        weights.push(entry);
    }
    let classes: BTreeMap<String, String> =
        (0..6).map(|i| (i.to_string(), format!("{} {i}", ["red", "blue"][i % 2]))).collect();
    let config = json!({"id2label": classes, "model": {
        "target": "taming.models.cond_transformer.Net2NetTransformer",
        "params": {
            "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": {
                "vocab_size": CODES, "block_size": PLACES, "n_layer": 1, "n_head": 3, "n_embd": WIDTH
            }},
            "first_stage_config": file("config.json")["model"],
            "cond_stage_config": {"target": "taming.modules.util.Labelator", "params": {"n_classes": 6}}
        }
    }});
    let manifest = json!({"case": "two_stages", "seed": 7, "weights": {"model.safetensors": weights}});
    for (name, json) in [("config.json", config), ("manifest.json", manifest)] {
        std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    }
    folder
}

/// The weights of a transformer of one block, by minGPT's names.
fn transformer() -> Vec<(String, Vec<usize>)> {
    let mut weights = vec![
        ("tok_emb.weight".to_string(), vec![CODES, WIDTH]),
        ("pos_emb".into(), vec![1, PLACES, WIDTH]),
        ("head.weight".into(), vec![CODES, WIDTH]),
    ];
    let mut layer = |name: &str, weight: &[usize]| {
        weights.push((format!("{name}.weight"), weight.to_vec()));
        weights.push((format!("{name}.bias"), vec![weight[0]]));
    };
    ["ln_f", "blocks.0.ln1", "blocks.0.ln2"].iter().for_each(|name| layer(name, &[WIDTH]));
    for name in ["query", "key", "value", "proj"] {
        layer(&format!("blocks.0.attn.{name}"), &[WIDTH, WIDTH]);
    }
    layer("blocks.0.mlp.0", &[4 * WIDTH, WIDTH]);
    layer("blocks.0.mlp.2", &[WIDTH, 4 * WIDTH]);
    weights
}

fn library(model: &Path) -> Vqgan {
    Vqgan::from_folder(model, Device::Cpu, Precision::F32).unwrap()
}

#[test]
fn classes_are_written_in_batches_as_they_are_alone() {
    let (model, out) = (model(), tempfile::tempdir().unwrap());
    let all = out.path().join("all");
    let options = ["--class", "RED 4", "--class", "1", "--count", "2", "--batch", "3", "--seed", "5"];
    let said = sample(model.path(), &options, &all);
    let wanted = ["blue-1-7.png", "blue-1-8.png", "red-4-5.png", "red-4-6.png"];
    assert_eq!(names(&all), wanted);
    for part in ["red 4, seed 5", "blue 1, seed 8", "3 pictures in", "one picture in", "codes/s of each"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    let one = out.path().join("one.png");
    for (class, seed, name) in [("4", "6", wanted[3]), ("blue 1", "7", wanted[0])] {
        sample(model.path(), &["--class", class, "--seed", seed], &one);
        let picture = read(&one);
        assert_eq!((picture.width, picture.height), (32, 32));
        assert_eq!(picture, read(&all.join(name)));
    }
    assert_ne!(read(&all.join(wanted[2])), read(&all.join(wanted[3])));
    assert_eq!(names(out.path()), ["all", "one.png"]);
}

#[test]
fn classes_are_listed_and_chosen_by_seeds_where_none_is_named() {
    let (model, out) = (model(), tempfile::tempdir().unwrap());
    let said = sample(model.path(), &["--classes"], &out.path().join("none"));
    let lines: Vec<&str> = said.lines().map(str::trim_start).collect();
    assert_eq!(lines, ["0  red 0", "1  blue 1", "2  red 2", "3  blue 3", "4  red 4", "5  blue 5"]);
    assert!(names(out.path()).is_empty());
    sample(model.path(), &["--seed", "11", "--count", "2", "--top-k", "0", "--top-p", "0.9"], out.path());
    assert_eq!(names(out.path()), ["blue-5-11.png", "red-0-12.png"]);
}

#[test]
fn what_is_completed_begins_as_it_was() {
    let (model, out) = (model(), tempfile::tempdir().unwrap());
    let (_folder, start) = picture(70, 50);
    let target = out.path().join("whole.png");
    let options = ["--complete", text(&start), "--keep", "0.75", "--size", "40x36", "--temperature", "0"];
    sample(model.path(), &[&options[..], &["--class", "2", "--preview", "8"]].concat(), &target);
    assert_eq!(names(out.path()), ["whole.png", "whole.preview.png"]);

    let mut vqgan = library(model.path());
    let picture = read(&start);
    let completion = Some(Completion { picture, rows: 7 });
    let request = Request {
        conditions: vec![Condition::Class(2)],
        grid: Some([9, 10]),
        sampling: Sampling::GREEDY,
        completion,
        ..Request::default()
    };
    let made = vqgan.sample_blocking(&request, &mut ()).unwrap().remove(0);
    assert_eq!(made.picture, read(&target));
    // Of the start's 70 columns, 56 have the shape that is asked for.
    let mut middle = read(&start);
    middle.rgb = middle.rgb.chunks(70 * 3).flat_map(|row| row[7 * 3..63 * 3].to_vec()).collect();
    middle.width = 56;
    let filter = kiln::models::image::Filter::Lanczos;
    let resized = kiln::models::image::resize(&middle, 40, 36, filter);
    let codes = vqgan.codec().encode_blocking(&resized).unwrap();
    assert_eq!(made.codes.codes()[..70], codes.codes()[..70]);
    // The last preview lacks the ninth row.
    let preview = read(&out.path().join("whole.preview.png"));
    assert_eq!((preview.width, preview.height), (40, 36));
    let rows: Vec<&[u8]> = preview.rgb.chunks(40 * 3).collect();
    assert!(rows[..32].iter().all(|row| row.iter().any(|&value| value > 0)));
    assert!(rows[32..].iter().all(|row| row.iter().all(|&value| value == 0)));
}

#[test]
fn a_preview_that_cannot_be_written_ends_the_picture_and_leaves_nothing_of_it() {
    let (model, out) = (model(), tempfile::tempdir().unwrap());
    std::fs::create_dir(out.path().join("a.preview.png")).unwrap();
    let target = out.path().join("a.png");
    let args = ["sample", text(model.path()), "--out", text(&target), "--preview", "--device", "cpu"];
    super::refused(&args, &["a.preview.png is a folder"]);
    assert_eq!(names(out.path()), ["a.preview.png"]);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is() {
    let model = model();
    let (_folder, start) = picture(8, 8);
    let start = text(&start);
    for (options, reason) in [
        (&["--class", "6"][..], "\"6\" is none of the model's 6 classes"),
        (&["--class", "green 1"], "--classes lists them"),
        (&["--map", start], "the model wants one of 6 classes"),
        (&["--size", "30x32"], "30x32 pixels are no multiples of 4"),
        (&["--size", "16x32"], "4x8 codes are smaller than the 8x8"),
        (&["--size", "400000x400000"], "have more than"),
        (&["--complete", start, "--keep", "1.5"], "--keep 1.5 is no share"),
        (&["--complete", "no/such.png"], "no/such.png cannot be read"),
        (&["--temperature", "nan"], "a temperature of NaN"),
        (&["--top-p", "2"], "a top-p of 2"),
        (&["--prompt", "a red 3"], "is a VQGAN, which takes no --prompt"),
        (&["--steps", "3", "--guidance", "2"], "takes no --steps and no --guidance"),
    ] {
        sample_refused(text(model.path()), options, reason);
    }
    let out = model.path().join("one.png");
    let args = ["sample", text(model.path()), "--out", text(&out), "--count", "2", "--device", "cpu"];
    super::refused(&args, &["one.png is one file, and 2 pictures are wanted: name a folder"]);
    assert_eq!(names(model.path()), ["config.json", "manifest.json"]);
}

#[test]
fn broken_folders_are_refused() {
    let folder = model();
    let edit = |name: &str, from: &str, to: &str| {
        let path = folder.path().join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{from}");
        std::fs::write(&path, before.replace(from, to)).unwrap();
        (path, before)
    };
    for (name, from, to, reason) in [
        ("manifest.json", "transformer.head.weight", "transformer.tail.weight", "transformer.head.weight"),
        ("manifest.json", "{\"case\"", "\"case\"", "manifest.json: it is no JSON"),
        ("manifest.json", "model.safetensors", "other.safetensors", "model.safetensors"),
        ("config.json", "\"n_classes\":6", "\"n_classes\":38", "config.json: 38 classes are more than"),
        ("config.json", "mingpt.GPT", "mingpt.Other", "config.json: its transformer is a"),
        ("config.json", "transformer_config", "other_config", "is of another kind than sample takes"),
        ("config.json", "{\"id2label\"", "\"id2label\"", "config.json: it is no JSON"),
    ] {
        let (path, before) = edit(name, from, to);
        sample_refused(text(folder.path()), &[], reason);
        std::fs::write(path, before).unwrap();
    }
}
