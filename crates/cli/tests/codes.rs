//! The commands that turn pictures into codes and back, on tiny models.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{refused, run, stdout, text};
use kiln::models::code_codec::CodeMap;
use kiln::models::image::Picture;
use kiln::models::image::quality::{psnr, ssim};
use kiln::{graph, models};
use serde_json::Value as Json;
use tempfile::TempDir;

#[path = "../../models/tests/vq_model/folders.rs"]
mod folders;

fn kiln(args: &[&str]) -> Output {
    run(&[args, &["--device", "cpu"]].concat())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn model(case: &str) -> String {
    text(&folders::fixture(case)).to_string()
}

/// A folder of pictures whose sides are no multiples of anything.
fn pictures() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, width, height) in [("a.png", 37, 23), ("b.png", 16, 16), ("small.png", 9, 21)] {
        let byte = |i: usize| ((i * 5 + i / 7 * 11) % 256) as u8;
        let picture = Picture::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap();
        std::fs::write(folder.path().join(name), picture.to_png().unwrap()).unwrap();
    }
    folder
}

fn read(path: &Path) -> Picture {
    Picture::decode(&std::fs::read(path).unwrap()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_encoded_is_decoded_as_it_is_reconstructed() {
    let (pictures, out) = (pictures(), tempfile::tempdir().unwrap());
    let path = |name: &str| out.path().join(name);
    let model = model("diffusers");
    let (sheet, json) = (path("sheet.png"), path("report.json"));
    let measuring = ["--sheet", text(&sheet), "--json", text(&json)];
    let reconstructed = path("reconstructed");
    let args = ["reconstruct", &model, text(pictures.path()), "--out", text(&reconstructed)];
    let output = kiln(&[&args[..], &measuring].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    for part in
        ["37x23 pixels, 10x6 codes", "of 37 used, perplexity", "bits a pixel", "PSNR", "SSIM", "3 pictures: "]
    {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    let (codes, decoded) = (path("codes"), path("decoded"));
    let output = kiln(&["encode", &model, text(pictures.path()), "--out", text(&codes)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = kiln(&["decode", &model, text(&codes), "--out", text(&decoded)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(names(&codes), ["a.codes", "b.codes", "small.codes"]);
    assert_eq!(names(&decoded), ["a.png", "b.png", "small.png"]);
    assert_eq!(names(out.path()), ["codes", "decoded", "reconstructed", "report.json", "sheet.png"]);

    let report: Json = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["spatial_factor"], &report["codebook"]), (&4.into(), &37.into()));
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        let original = PathBuf::from(result["picture"].as_str().unwrap());
        let name = original.file_name().unwrap();
        let (original, again) = (read(&original), read(&reconstructed.join(name)));
        assert_eq!(again, read(&decoded.join(name)));
        let bytes = std::fs::read(codes.join(name).with_extension("codes")).unwrap();
        let map = CodeMap::from_bytes(&bytes).unwrap();
        assert_eq!(map.picture_size(), [original.height, original.width]);
        assert_eq!(result["bytes"], bytes.len());
        assert_eq!(result["codes_used"], map.used());
        let number = |key: &str| result[key].as_f64().unwrap();
        let pixels = (original.width * original.height) as f64;
        assert!((number("bits_per_pixel") - bytes.len() as f64 * 8.0 / pixels).abs() < 1e-9);
        assert!((number("ratio") * number("bits_per_pixel") - 24.0).abs() < 1e-9);
        assert!((number("psnr") - psnr(&original, &again).unwrap()).abs() < 1e-9);
        match ssim(&original, &again) {
            Ok(ssim) => assert!((number("ssim") - ssim).abs() < 1e-9),
            Err(_) => assert!(result["ssim"].is_null() && original.width == 9),
        }
    }
    let sheet = image::open(sheet).unwrap();
    assert!(sheet.width() > 640 && sheet.height() > 3 * 320);
}

#[test]
fn the_first_of_two_stages_is_a_model() {
    let (pictures, folder) = (pictures(), tempfile::tempdir().unwrap());
    let [two, out] = ["two", "out"].map(|name| folder.path().join(name));
    std::fs::create_dir(&two).unwrap();
    folders::write_two_stages(&two, "");
    let picture = pictures.path().join("a.png");
    let output = kiln(&["encode", text(&two), text(&picture), "--out", text(&out)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let codes = out.join("a.codes");
    let output = kiln(&["decode", &model("original"), text(&codes), "--out", text(&out)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let yaml = two.join("2020-11-13-project.yaml");
    std::fs::write(&yaml, "model: [").unwrap();
    let args = |model| ["encode", model, text(&picture), "--device", "cpu"];
    refused(&args(text(&two)), &["project.yaml: it is no YAML: line 1"]);
    std::fs::write(&yaml, "model: {target: x.Other, params: {ddconfig: {}}}").unwrap();
    refused(&args(text(&two)), &["project.yaml: x.Other is no autoencoder with a codebook"]);
    std::fs::remove_file(&yaml).unwrap();
    std::fs::remove_file(two.join("2020-11-13-lightning.yaml")).unwrap();
    refused(&args(text(&two)), &["holds no config.json and no YAML file"]);
}

#[test]
fn tiles_and_precisions_are_taken() {
    let (pictures, out) = (pictures(), tempfile::tempdir().unwrap());
    let (model, picture) = (model("gumbel"), pictures.path().join("a.png"));
    for options in [&["--tile", "8"][..], &["--memory", "64"], &["--precision", "f16"]] {
        let args = ["reconstruct", &model, text(&picture), "--out", text(out.path())];
        let output = kiln(&[&args[..], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let again = read(&out.path().join("a.png"));
        assert_eq!((again.width, again.height), (37, 23));
        assert_eq!(stdout(&output).contains("f16's range"), options[0] == "--precision");
    }
    for options in [&["--tile", "12"][..], &["--tile", "0"], &["--tile", "8", "--memory", "64"]] {
        let args = ["encode", &model, text(&picture), "--out", text(out.path())];
        assert_eq!(kiln(&[&args[..], options].concat()).status.code(), Some(2));
    }
}

#[test]
fn bad_files_are_refused_by_name_and_the_others_are_done() {
    let (pictures, out) = (pictures(), tempfile::tempdir().unwrap());
    let picture = |name: &str, bytes: &[u8]| std::fs::write(pictures.path().join(name), bytes).unwrap();
    picture("text.png", b"this is no picture");
    picture("thin.png", &Picture::new(1, 40, vec![0; 120]).unwrap().to_png().unwrap());
    let (model, codes) = (model("gumbel"), out.path().join("codes"));
    let output = kiln(&["encode", &model, text(pictures.path()), "--out", text(&codes)]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(errors.contains("text.png cannot be decoded") && errors.contains("thin.png: a picture of 1x40"));
    assert_eq!(names(&codes), ["a.codes", "b.codes", "small.codes"]);

    let whole = std::fs::read(codes.join("a.codes")).unwrap();
    std::fs::write(codes.join("cut.codes"), &whole[..whole.len() - 1]).unwrap();
    std::fs::write(codes.join("text.codes"), b"this is no code").unwrap();
    let decoded = out.path().join("decoded");
    let output = kiln(&["decode", &model, text(&codes), "nothing.codes", "--out", text(&decoded)]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    for part in
        ["cut.codes is damaged or cut off", "text.codes is no .codes file", "nothing.codes cannot be read"]
    {
        assert!(errors.contains(part), "{part:?} is missing: {errors}");
    }
    assert_eq!(names(&decoded), ["a.png", "b.png", "small.png"]);
    let other = folders::fixture("original");
    let args =
        ["decode", text(&other), text(&codes.join("a.codes")), "--out", text(&decoded)].map(str::to_string);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--device", "cpu"]).collect();
    refused(&args, &["a.codes was made by another model: its codes are of another codebook"]);
}

#[test]
fn what_is_bad_from_the_start_is_refused_in_one_sentence_and_nothing_is_left() {
    let (pictures, out) = (pictures(), tempfile::tempdir().unwrap());
    let target = out.path().join("out");
    let (model, picture) = (model("gumbel"), text(&pictures.path().join("a.png")).to_string());
    let (folder, mut cases) = (text(pictures.path()).to_string(), Vec::new());
    for command in ["reconstruct", "encode"] {
        cases.push((vec![command, "digits", &picture], "digits/config.json: it is of no autoencoder"));
        cases.push((vec![command, "captions", &picture], "captions holds no config.json"));
        cases.push((vec![command, "no/such", &picture], "no/such is no folder"));
        cases.push((vec![command, &model, "no/*.png"], "no picture matches no/*.png"));
    }
    let other = self::model("no_attention");
    cases.push((vec!["encode", &other, &picture], "images of 2 channels of such of 4"));
    cases.push((vec!["decode", &model, &folder], "holds no .codes files"));
    cases.push((vec!["reconstruct", &model, &folder, "--sheet", &picture], "would write over"));
    cases.push((vec!["reconstruct", &model, &folder, "--json", &picture], "would write over"));
    cases.push((vec!["reconstruct", &model, &folder, "--json", "no/such.json"], "no/such.json"));
    for (args, reason) in cases {
        refused(&[&args[..], &["--out", text(&target), "--device", "cpu"]].concat(), &[reason]);
        assert!(!target.exists(), "{args:?} left something");
    }
    let before = std::fs::read(&picture).unwrap();
    refused(&["reconstruct", &model, &folder, "--out", &folder, "--device", "cpu"], &["would write over"]);
    assert_eq!(std::fs::read(&picture).unwrap(), before);
    assert_eq!(names(pictures.path()), ["a.png", "b.png", "small.png"]);
}
