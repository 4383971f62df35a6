//! The commands that make pictures, on tiny models.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{refused, run, stdout, text};
use kiln::{graph, models};

#[path = "../../models/tests/stable_diffusion/original.rs"]
mod original;
#[path = "../../models/tests/stable_diffusion/requests.rs"]
#[allow(dead_code)]
mod requests;

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
fn loras_change_pictures_as_much_as_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let model = file("plain");
    let lora = |name: &str| text(&fixtures().join("../lora").join(name)).to_string();
    let make = |name: &str, loras: &[String]| {
        let path = folder.path().join(name);
        let out = text(&path).to_string();
        let mut args =
            vec!["text2image", &model, "a red three", "--steps", "3", "--seed", "5", "--out", &out];
        args.extend(loras.iter().flat_map(|lora| ["--lora", lora]));
        let output = kiln(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (image::open(&path).unwrap(), parameters(&path))
    };
    let (without, said) = make("0.png", &[]);
    assert!(!said.contains("Lora"));
    let (half, said) = make("1.png", &[lora("kohya.safetensors:0.5")]);
    assert!(said.contains("Lora: \"kohya:0.5\""), "{said}");
    let (whole, _) = make("2.png", &[lora("kohya.safetensors")]);
    let (twice, said) = make("3.png", &[lora("kohya.safetensors:0.5"), lora("peft.safetensors:0")]);
    assert!(said.contains("Lora: \"kohya:0.5, peft:0\""), "{said}");
    assert!(without != half && half != whole && half == twice);
}

#[test]
fn a_checkpoint_in_one_file_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.safetensors");
    std::fs::write(&path, original::file(&original::tensors("first"))).unwrap();
    let (model, out) = (text(&path).to_string(), text(&folder.path().join("out.png")).to_string());
    let args = ["text2image", &model, "a red three", "--steps", "2", "--size", "24x32", "--out", &out];
    refused(&[&args[..], &["--device", "cpu"]].concat(), &["tiny.safetensors has no tokenizer"]);
    let tokenizer = file("plain/tokenizer");
    let pipeline = file("plain");
    // The tokenizer is named by its folder or by its pipeline's, or lies beside the file.
    for given in [&["--tokenizer", &tokenizer][..], &["--tokenizer", &pipeline], &["--config", &pipeline]] {
        let output = kiln(&[&args[..], given].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::copy(Path::new(&tokenizer).join(name), folder.path().join(name)).unwrap();
    }
    let output = kiln(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = parameters(Path::new(&out));
    assert!(said.contains("Sampler: PLMS") && said.contains("Model: tiny,"), "{said}");
    // CLIP's own is enough for a text encoder that knows its tokens.
    let alone = tempfile::tempdir().unwrap();
    let path = alone.path().join("clip.safetensors");
    std::fs::write(&path, original::file(&original::with_tokens("first", 49408))).unwrap();
    let output = kiln(&["text2image", text(&path), "x", "--steps", "1", "--size", "24x32", "--out", &out]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let pickle = folder.path().join("tiny.ckpt");
    std::fs::write(&pickle, [0x80, 2]).unwrap();
    refused(&["text2image", text(&pickle), "x", "--device", "cpu"], &["tiny.ckpt", "pickle"]);
}

#[test]
fn a_pipeline_of_the_hub_that_cannot_be_had_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(["text2image", "hub:owner/name", "x", "--device", "cpu"])
        // A port that nobody listens on.
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("HF_HOME", cache.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).lines().count() == 1 && stderr(&output).contains("hub:owner/name"),
        "{}",
        stderr(&output)
    );
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
    let lora = text(&fixtures().join("../lora/kohya.safetensors")).to_string();
    let (nan, pictures) = (format!("{lora}:NaN"), file("plain/pictures.safetensors"));
    let other = folder.path().join("other.safetensors");
    std::fs::write(&other, original::file(&original::tensors("first"))).unwrap();
    let other = text(&other).to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["text2image", &broken, "x"], "holds no tokenizer"),
        (&["text2image", "scenes", "x"], "scenes holds no model_index.json"),
        (&["text2image", &model, "x", "--size", "33x32"], "multiples of 4"),
        (&["text2image", &model, "x", "--steps", "0"], "steps"),
        (&["text2image", &model, "x", "--steps", "100000"], "steps"),
        (&["text2image", &model, "x", "--guidance", "NaN"], "NaN"),
        (&["text2image", &model, "(x:1)(:", "--weighted", "--clip-skip", "9"], "left out"),
        (&["text2image", &inpainting, "x"], "a picture and a mask"),
        (&["text2image", &model, "x", "--embedding", "nothing.safetensors"], "nothing.safetensors"),
        (&["text2image", &model, "x", "--preview", "1", "--preview-model", "nothing"], "nothing"),
        (&["text2image", &model, "x", "--lora", "nothing.safetensors:0.5"], "nothing.safetensors: "),
        (&["text2image", &model, "x", "--lora", "nothing.safetensors:x"], "nothing.safetensors:x: "),
        (&["text2image", &model, "x", "--lora", &nan], "a scale of NaN"),
        (
            &["text2image", &other, "x", "--tokenizer", &model, "--lora", &lora],
            "kohya.safetensors is for another model",
        ),
        (&["text2image", &model, "x", "--lora", &pictures], "is part of no LoRA"),
        (&["text2image", &pictures, "x"], "it is no checkpoint of Stable Diffusion"),
        (&["text2image", &lora, "x"], "it is a LoRA"),
        (&["text2image", &model, "x", "--tokenizer", "nothing"], "nothing is no folder"),
        (&["text2image", &model, "x", "--prediction", "x"], "prediction_type"),
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
