//! The requests that `tests/oracle/stable_diffusion.py` gave to diffusers, and how near its pictures ours are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::models;
use models::image::Picture;
use models::stable_diffusion::{Request, StableDiffusion, Start};
use models::weights::{Files, Folder, SafeTensors};

/// The requests of each folder, by name.
pub const REQUESTS: [(&str, &[&str]); 2] = [
    (
        "plain",
        &["text2image", "wide", "ancestral", "unguided", "img2img", "img2img_heun", "inpaint", "inpaint_all"],
    ),
    ("inpainting", &["inpaint", "inpaint_part"]),
];

pub fn folder() -> PathBuf {
    // From either crate that this file is a part of.
    let roots = ["", "../.."].map(|up| Path::new(env!("CARGO_MANIFEST_DIR")).join(up));
    let fixtures = roots.map(|root| root.join("tests/fixtures/stable_diffusion"));
    fixtures.into_iter().find(|path| path.is_dir()).expect("the fixtures are there")
}

pub fn request(folder_name: &str, name: &str) -> Request {
    let picture = |file: &str| Picture::decode(&std::fs::read(folder().join(file)).unwrap()).unwrap();
    let start = |strength: f64, mask: bool| {
        Some(Start { picture: picture("start.png"), strength, mask: mask.then(|| picture("mask.png")) })
    };
    let base = Request {
        prompt: "a red three left of a blue seven".into(),
        negative_prompt: "blurry blue".into(),
        ..Request::default()
    };
    let (one, two) = (vec![3], vec![3, 4]);
    let class = |name: &str| Some(format!("{name}Scheduler"));
    match (folder_name, name) {
        ("plain", "text2image") => Request { steps: 6, seeds: two, ..base },
        ("plain", "wide") => Request { steps: 4, seeds: one, size: Some([24, 40]), eta: 0.5, ..base },
        ("plain", "ancestral") => Request {
            steps: 5,
            seeds: two,
            scheduler: class("EulerAncestralDiscrete"),
            guidance_scale: 5.0,
            guidance_rescale: 0.6,
            clip_skip: 1,
            ..base
        },
        ("plain", "unguided") => {
            Request { steps: 3, seeds: one, scheduler: class("LCM"), guidance_scale: 1.0, ..base }
        }
        ("plain", "img2img") => {
            let scheduler = class("DPMSolverMultistep");
            Request { steps: 7, seeds: two, scheduler, start: start(0.6, false), ..base }
        }
        ("plain", "img2img_heun") => {
            let scheduler = class("HeunDiscrete");
            Request { steps: 4, seeds: one, scheduler, start: start(0.5, false), ..base }
        }
        ("plain", "inpaint") => Request { steps: 6, seeds: two, start: start(0.8, true), ..base },
        ("plain", "inpaint_all") => Request { steps: 5, seeds: one, start: start(1.0, true), ..base },
        ("inpainting", "inpaint") => Request { steps: 5, seeds: two, start: start(1.0, true), ..base },
        ("inpainting", "inpaint_part") => Request { steps: 6, seeds: one, start: start(0.7, true), ..base },
        _ => panic!("there is no request {folder_name}/{name}"),
    }
}

/// The largest difference of a byte from diffusers' pictures, and the share of bytes that differ.
pub fn difference(pipeline: &mut StableDiffusion, folder_name: &str, name: &str) -> (u8, f64) {
    let files: Arc<dyn Files> = Arc::new(Folder::new(folder().join(folder_name)));
    let expected = SafeTensors::open(files, "pictures.safetensors").unwrap().load(name).unwrap();
    let pictures = pipeline.generate_blocking(&request(folder_name, name), &mut ()).unwrap();
    let &[batch, height, width, 3] = expected.shape() else { panic!("{} are no pictures", expected.desc()) };
    assert_eq!(pictures.len(), batch);
    assert!(pictures.iter().all(|picture| (picture.height, picture.width) == (height, width)));
    let wanted: Vec<u8> = expected.to_f32().iter().map(|v| (v * 255.0).round_ties_even() as u8).collect();
    let ours: Vec<u8> = pictures.into_iter().flat_map(|picture| picture.rgb).collect();
    let differences = ours.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b));
    let largest = differences.clone().max().unwrap_or(0);
    (largest, differences.filter(|&d| d > 0).count() as f64 / wanted.len() as f64)
}
