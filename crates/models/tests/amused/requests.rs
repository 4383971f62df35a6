//! The requests that `tests/oracle/amused.py` gave to diffusers, and how near its codes and pictures ours are.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::models;
use models::amused::{Amused, Request, Start};
use models::image::Picture;
use models::weights::{Files, Folder, SafeTensors};

/// The requests by name.
pub const REQUESTS: [&str; 4] = ["text2image", "unguided", "img2img", "inpaint"];

pub fn folder() -> PathBuf {
    // From either crate that this file is a part of.
    let roots = ["", "../.."].map(|up| Path::new(env!("CARGO_MANIFEST_DIR")).join(up));
    let fixtures = roots.map(|root| root.join("tests/fixtures/amused"));
    fixtures.into_iter().find(|path| path.is_dir()).expect("the fixtures are there")
}

pub fn request(name: &str) -> Request {
    let picture = |file: &str| Picture::decode(&std::fs::read(folder().join(file)).unwrap()).unwrap();
    let base = Request {
        prompt: "a red three left of a blue seven".into(),
        negative_prompt: "blurry blue".into(),
        ..Request::default()
    };
    match name {
        "text2image" => Request { steps: 6, seeds: vec![3, 4], ..base },
        "unguided" => Request {
            steps: 3,
            seeds: vec![5],
            guidance_scale: 1.0,
            size: Some([24, 40]),
            temperature: [4.5, 0.5],
            aesthetic_score: 5.0,
            crop: [8, 2],
            ..base
        },
        "img2img" => {
            let start = Start { picture: picture("start.png"), mask: None, strength: 0.7 };
            Request { steps: 6, seeds: vec![8, 9], start: Some(start), ..base }
        }
        "inpaint" => {
            let (picture, mask) = (picture("start.png"), Some(picture("mask.png")));
            let start = Start { picture, mask, strength: 0.8 };
            Request { steps: 7, seeds: vec![6, 7], start: Some(start), ..base }
        }
        _ => panic!("there is no request {name}"),
    }
}

/// How far pictures are from those of diffusers.
#[derive(Debug)]
pub struct Difference {
    /// The share of codes that differ behind each step.
    pub codes: Vec<f64>,
    /// The largest difference of a byte.
    pub bytes: u8,
}

pub fn difference(pipeline: &mut Amused, name: &str) -> Difference {
    let files: Arc<dyn Files> = Arc::new(Folder::new(folder()));
    let expected = SafeTensors::open(files, "expected.safetensors").unwrap();
    let wanted = expected.load(&format!("{name}.codes")).unwrap().to_f64();
    let mut seen = Vec::new();
    let mut watch = |progress: models::amused::Progress| {
        assert_eq!(progress.step, seen.len());
        seen.push(progress.codes.to_f64());
        ControlFlow::Continue(())
    };
    let pictures = pipeline.generate_blocking(&request(name), &mut watch).unwrap();
    assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), wanted.len(), "{name}");
    let each = wanted.len() / seen.len();
    let differs =
        |(ours, theirs): (&Vec<f64>, &[f64])| ours.iter().zip(theirs).filter(|(a, b)| a != b).count() as f64;
    let codes = seen.iter().zip(wanted.chunks(each)).map(|pair| differs(pair) / each as f64).collect();
    let wanted = expected.load(&format!("{name}.pictures")).unwrap().to_f64();
    let ours: Vec<u8> = pictures.into_iter().flat_map(|picture| picture.rgb).collect();
    assert_eq!(ours.len(), wanted.len(), "{name}");
    let bytes = ours.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b as u8)).max().unwrap_or(0);
    Difference { codes, bytes }
}
