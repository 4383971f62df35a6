//! The command that samples pictures, on tiny models.

mod common;

#[path = "sample/amused.rs"]
mod amused;
#[path = "sample/gan.rs"]
mod gan;
#[path = "sample/vqgan.rs"]
mod vqgan;

use std::path::{Path, PathBuf};

use common::{refused, run, stdout, text};
use kiln::models::image::Picture;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// What `kiln sample` prints where all goes well.
fn sample(model: &Path, options: &[&str], out: &Path) -> String {
    let args = ["sample", text(model), "--out", text(out), "--device", "cpu"];
    let output = run(&[&args, options].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{options:?}: {stderr}");
    stdout(&output)
}

/// `kiln sample` refuses this in one sentence, and leaves nothing.
fn sample_refused(model: &str, options: &[&str], reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let args = ["sample", model, "--out", text(&out), "--device", "cpu"];
    refused(&[&args, options].concat(), &[reason]);
    assert!(names(folder.path()).is_empty(), "{options:?} left something");
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

/// A file of a picture of this size.
fn picture(width: usize, height: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.png");
    let byte = |i: usize| (i * 37 % 251) as u8;
    let picture = Picture::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap();
    std::fs::write(&path, picture.to_png().unwrap()).unwrap();
    (folder, path)
}

/// A copy of a folder and of the folders in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.is_dir() {
            true => copy(&path, &target),
            false => assert!(std::fs::copy(&path, &target).is_ok()),
        }
    }
}

#[test]
fn models_of_other_kinds_are_refused() {
    for (model, reason) in [
        ("digits", "digits is of another kind than sample takes"),
        ("captions", "captions is of a StableDiffusionPipeline, and sample takes a VQGAN of two stages"),
        ("no/such", "no/such is no folder"),
    ] {
        sample_refused(model, &[], reason);
    }
    let first_stage = fixture("vq_model/diffusers");
    sample_refused(text(&first_stage), &[], "is of another kind than sample takes");
    let empty = tempfile::tempdir().unwrap();
    sample_refused(text(empty.path()), &[], "model.safetensors");
    std::fs::write(empty.path().join("model_index.json"), "{").unwrap();
    sample_refused(text(empty.path()), &["--prompt", "a"], "model_index.json: it is no JSON");
}

#[test]
fn a_picture_that_would_be_written_over_is_spared() {
    let (folder, start) = picture(8, 8);
    let before = std::fs::read(&start).unwrap();
    let amused = fixture("amused");
    let over = |complete: &Path, out: &Path, more: &[&str]| {
        let args = ["sample", text(&amused), "--prompt", "a", "--device", "cpu"];
        let files = ["--complete", text(complete), "--out", text(out)];
        refused(&[&args, &files[..], more].concat(), &["that would write over"]);
    };
    over(&start, &start, &[]);
    let preview = folder.path().join("x.preview.png");
    std::fs::copy(&start, &preview).unwrap();
    over(&preview, &folder.path().join("x.png"), &["--preview"]);
    assert_eq!(names(folder.path()), ["start.png", "x.preview.png"]);
    assert!(std::fs::read(&start).unwrap() == before && std::fs::read(&preview).unwrap() == before);
}
