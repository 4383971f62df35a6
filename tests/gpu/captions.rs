//! The bundled model's pictures of the prompts that were held out, against diffusers' and judged by the bundled detector.
//!
//! A device in software makes pictures of a part of them, unless ignored tests are asked for (`-- captions --include-ignored`).

use std::path::{Path, PathBuf};

use kiln::engine::{Gpu, Precision};
use kiln::models::image::Picture;
use kiln::models::stable_diffusion::{Request, StableDiffusion};
use kiln::models::{Detector, Device};
use libtest_mimic::{Failed, Trial};

use crate::things;

#[path = "../../crates/cli/src/demo/judge.rs"]
mod judge;

use judge::{Asked, Verdict};

const ALL: usize = 200;
/// Of the first so many there are diffusers' pictures.
const SAMPLES: usize = 16;
/// As `examples/models/scenes-ldm/train.py` measures.
const STEPS: usize = 20;
const GUIDANCE: f32 = 3.0;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models").join(name)
}

/// The largest difference of a byte from the pictures that diffusers made of the first prompts.
fn against_diffusers(prompts: &[&str], pictures: &[Picture]) -> Result<u8, Failed> {
    let mut worst = 0;
    for (seed, (prompt, ours)) in prompts.iter().zip(pictures).take(SAMPLES).enumerate() {
        let name = format!("samples/{seed:02}-{}.png", prompt.replace(' ', "-"));
        let theirs = Picture::decode(&std::fs::read(folder("scenes-ldm").join(name))?)?;
        if (theirs.width, theirs.height) != (ours.width, ours.height) {
            return Err(format!("the picture of {prompt:?} has another size").into());
        }
        let differences = theirs.rgb.iter().zip(&ours.rgb).map(|(a, b)| a.abs_diff(*b));
        worst = differences.fold(worst, u8::max);
    }
    Ok(worst)
}

fn held_out(gpu: &Gpu, precision: Precision, count: usize) -> Result<(), Failed> {
    let prompts = std::fs::read_to_string(folder("scenes-ldm").join("heldout.txt"))?;
    let prompts: Vec<&str> = prompts.lines().collect();
    if prompts.len() != ALL {
        return Err(format!("{} prompts are not {ALL}", prompts.len()).into());
    }
    let prompts = &prompts[..count];
    let device = || Device::Gpu(gpu.clone());
    let mut pipeline = StableDiffusion::from_folder(folder("scenes-ldm"), device(), precision)?;
    let mut detector = Detector::from_folder(folder("scenes-detr"), device(), Precision::F32)?;
    detector.set_max_batch(50);
    let mut pictures: Vec<Picture> = Vec::new();
    for (number, prompt) in prompts.iter().enumerate() {
        let request = Request {
            prompt: prompt.to_string(),
            steps: STEPS,
            guidance_scale: GUIDANCE,
            seeds: vec![number as u64],
            ..Request::default()
        };
        pictures.extend(pipeline.generate_blocking(&request, &mut ())?);
    }
    if precision == Precision::F32 {
        let worst = against_diffusers(prompts, &pictures)?;
        println!("off by {worst} from diffusers' pictures");
        if worst > 1 {
            return Err(format!("a byte is off by {worst} from diffusers' picture").into());
        }
    }
    let found = detector.detect_blocking(&pictures)?;
    let mut verdicts = Vec::new();
    for ((prompt, picture), found) in prompts.iter().zip(&pictures).zip(&found) {
        let asked = Asked::parse(prompt).ok_or_else(|| format!("{prompt:?} is not read"))?;
        verdicts.push(asked.judge(picture, found, &detector)?);
    }
    let count = |good: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| good(verdict)).count();
    let (digits, all) = (count(|verdict| verdict.digits), count(|verdict| verdict.all));
    println!(
        "of {} pictures {digits} show the right digits, and {all} of those in the right colours and places",
        prompts.len()
    );
    if digits * 5 < prompts.len() * 4 || all * 5 < digits * 4 {
        return Err("too few pictures show what is asked for".into());
    }
    Ok(())
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let tier = gpu.as_ref().ok().map(Gpu::tier);
    let software = tier.is_some_and(|tier| tier.software);
    // SwiftShader, which has no f16 either, computes a tenth as fast as others.
    let slow = software && tier.is_some_and(|tier| !tier.f16);
    let (some, few) = if slow { (10, 10) } else { (25, 10) };
    let f32 = crate::trial("captions::some_f32".into(), gpu, move |gpu| held_out(gpu, Precision::F32, some));
    let f16 = crate::trial("captions::some_f16".into(), gpu, move |gpu| held_out(gpu, Precision::F16, few));
    let all = crate::trial("captions::held_out".into(), gpu, |gpu| held_out(gpu, Precision::F32, ALL));
    let without = tier.is_some_and(|tier| !tier.f16);
    vec![
        f32,
        if without { f16.with_ignored_flag(true) } else { f16 },
        if software { all.with_ignored_flag(true) } else { all },
    ]
}
