//! The commands that make pictures, on tiny models.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{refused, run, stdout, text};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/stable_diffusion")
}

fn file(name: &str) -> String {
    text(&fixtures().join(name)).to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn kiln(args: &[&str]) -> Output {
    run(&[args, &["--device", "cpu"]].concat())
}

/// What a PNG file says that it shows.
fn parameters(path: &Path) -> String {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
    let reader = decoder.read_info().unwrap();
    let latin = reader.info().uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == "parameters");
    let any = reader.info().utf8_text.iter().find(|chunk| chunk.keyword == "parameters");
    latin.map(|chunk| chunk.text.clone()).unwrap_or_else(|| any.unwrap().get_text().unwrap())
}

#[test]
fn pictures_say_how_they_were_made() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (file("plain"), text(folder.path()).to_string());
    let args = ["text2image", &model, "a red three", "--negative", "blurry", "--steps", "3", "--out", &out];
    let more = ["--seed", "7", "--count", "3", "--batch", "2", "--sampler", "euler-a", "--size", "24x32"];
    let output = kiln(&[&args[..], &more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for seed in 7..10 {
        let path = folder.path().join(format!("text2image-{seed}.png"));
        assert!(stdout(&output).contains(&format!("seed {seed}")));
        let wanted = format!(
            "a red three\nNegative prompt: blurry\nSteps: 3, Sampler: Euler a, CFG scale: 7.5, Seed: {seed}, Size: 24x32, \
             Model: plain, Version: kiln {}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(parameters(&path), wanted);
        let picture = image::open(&path).unwrap();
        assert_eq!((picture.width(), picture.height()), (24, 32));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_seed_makes_the_same_picture_in_every_way_of_working() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_string();
    let (model, start, mask) = (file("plain"), file("start.png"), file("mask.png"));
    let common = |out: &str| {
        let out = path(out);
        ["--steps", "4", "--seed", "5", "--out", &out].map(str::to_string)
    };
    let mut made = Vec::new();
    let quick = text(&fixtures().join("../autoencoder/tiny_two_stages")).to_string();
    let previews = ["--preview", "3", "--preview-model", &quick];
    for (name, more) in
        [("1.png", &[][..]), ("2.png", &["--low-memory", "--preview", "2"]), ("3.png", &previews)]
    {
        let common = common(name);
        let common: Vec<&str> = common.iter().map(String::as_str).collect();
        let args = [&["inpaint", &model, &start, &mask, "🦀 of blue"], &common[..], more].concat();
        let output = kiln(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(parameters(&folder.path().join(name)).starts_with("🦀 of blue\nSteps: 4"));
        made.push(image::open(path(name)).unwrap());
    }
    assert_eq!(made[0], made[1]);
    assert_eq!(made[0], made[2]);
    let side = |name: &str| image::open(path(name)).unwrap().width();
    // The quick one makes half as many pixels of a latent.
    let width = made[0].width();
    assert_eq!([side("2.preview.png"), side("3.preview.png")], [width, width / 2]);
    assert!(!folder.path().join("1.preview.png").exists());
}

#[test]
fn bad_input_is_refused_in_one_sentence_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("pictures")).to_string();
    let (model, start) = (file("plain"), file("start.png"));
    let inpainting = file("inpainting");
    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::copy(fixtures().join("plain/model_index.json"), broken.join("model_index.json")).unwrap();
    let broken = text(&broken).to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["text2image", &broken, "x"], "holds no tokenizer"),
        (&["text2image", "scenes", "x"], "model_index.json"),
        (&["text2image", &model, "x", "--size", "33x32"], "multiples of 4"),
        (&["text2image", &model, "x", "--steps", "0"], "steps"),
        (&["text2image", &model, "x", "--steps", "100000"], "steps"),
        (&["text2image", &model, "x", "--guidance", "NaN"], "NaN"),
        (&["text2image", &model, "(x:1)(:", "--weighted", "--clip-skip", "9"], "left out"),
        (&["text2image", &inpainting, "x"], "a picture and a mask"),
        (&["text2image", &model, "x", "--embedding", "nothing.safetensors"], "nothing.safetensors"),
        (&["text2image", &model, "x", "--preview", "1", "--preview-model", "nothing"], "nothing"),
        (&["img2img", &model, "nothing.png", "x"], "nothing.png"),
        (&["img2img", &model, &start, "x", "--strength", "1.5"], "strength"),
        (&["img2img", &model, &start, "x", "--strength", "0"], "strength"),
        (&["inpaint", &model, &start, "nothing.png", "x"], "nothing.png"),
    ];
    for (args, reason) in cases {
        refused(&[args, &["--out", &out, "--device", "cpu"][..]].concat(), &[reason]);
        assert!(!Path::new(&out).exists(), "{args:?} left something");
    }
    for (option, value, reason) in [("--size", "big", "512x768"), ("--sampler", "best", "dpm++2m-karras")] {
        let output = kiln(&["text2image", &model, "x", option, value]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(reason));
    }
}
