//! The bundled VQGAN: what its codes bring back of pictures that were held out, PyTorch's codes, and what it writes.
//!
//! A device in software takes a part of them, unless ignored tests are asked for (`-- glyphs --include-ignored`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln::engine::{Gpu, Precision};
use kiln::graph::sampling::Sampling;
use kiln::models::image::Picture;
use kiln::models::image::quality::psnr;
use kiln::models::vqgan::{Condition, Conditions, Request};
use kiln::models::weights::{Files, Folder, SafeTensors};
use kiln::models::{Classifier, CodeCodec, Device, Vqgan};
use libtest_mimic::{Failed, Trial};

use crate::things;

#[path = "../../crates/cli/src/demo/reading.rs"]
mod reading;

use reading::{light, shows};

/// Pictures of a measurement, held out or written.
const ALL: usize = 200;
/// Codes of a picture.
const CODES: usize = 64;
/// Least mean PSNR in dB; 24 is asked of codes for squares of 8 pixels.
const QUALITY: f64 = 30.0;
/// Greedy choices that lead by less may differ from PyTorch's.
const NEAR: f32 = 1e-3;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models").join(name)
}

/// What PyTorch made of the held-out pictures and of the classes.
fn expected(name: &str) -> Result<kiln::graph::Tensor, Failed> {
    let files: Arc<dyn Files> = Arc::new(Folder::new(folder("digits-vqgan")));
    Ok(SafeTensors::open(files, "heldout.safetensors")?.load(name)?)
}

fn held_out() -> Result<Vec<Picture>, Failed> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder("digits-vqgan/heldout"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let pictures = paths.iter().map(|path| Ok(Picture::decode(&std::fs::read(path)?)?));
    pictures.collect()
}

/// Codes and quality of held-out pictures. In f16, 2 % of the codes may differ from PyTorch's; in f32 only near ties do.
fn reconstructions(gpu: &Gpu, precision: Precision, count: usize) -> Result<(), Failed> {
    let mut codec = CodeCodec::from_folder(folder("digits-vqgan"), Device::Gpu(gpu.clone()), precision)?;
    let wanted = expected("codes")?.to_f64();
    let pictures = held_out()?;
    if pictures.len() != ALL || wanted.len() != ALL * CODES {
        return Err("the held-out pictures are not all there".into());
    }
    let (mut quality, mut differ) = (0.0, 0);
    for (picture, wanted) in pictures.iter().zip(wanted.chunks(CODES)).take(count) {
        let map = codec.encode_blocking(picture)?;
        differ +=
            map.codes().iter().zip(wanted).filter(|(code, wanted)| f64::from(**code) != **wanted).count();
        quality += psnr(picture, &codec.decode_blocking(&map)?)? / count as f64;
    }
    println!("{quality:.2} dB, {differ} of {} codes differ from PyTorch's", count * CODES);
    // In f32 three near ties are among all of them, and any few pictures may have two.
    let most = if precision == Precision::F16 { count * CODES / 50 } else { 2 + count * CODES / 1000 };
    if quality < QUALITY || differ > most {
        return Err(format!("{quality:.2} dB, {differ} codes differ").into());
    }
    Ok(())
}

/// The likeliest codes of the first classes, which are PyTorch's.
fn greedy(gpu: &Gpu, classes: usize) -> Result<(), Failed> {
    let mut vqgan = Vqgan::from_folder(folder("digits-vqgan"), Device::Gpu(gpu.clone()), Precision::F32)?;
    let (wanted, lead) = (expected("greedy")?.to_f64(), expected("greedy_lead")?.to_f32().to_vec());
    let classes = lead.len().min(classes);
    let request = Request {
        conditions: (0..classes).map(Condition::Class).collect(),
        seeds: vec![0; classes],
        sampling: Sampling::GREEDY,
        ..Request::default()
    };
    let samples = vqgan.sample_blocking(&request, &mut ())?;
    let sure = samples.iter().zip(wanted.chunks(CODES)).zip(&lead).filter(|(_, lead)| **lead > NEAR);
    let mut compared = 0;
    for ((sample, wanted), _) in sure {
        let codes: Vec<f64> = sample.codes.codes().iter().map(|&code| f64::from(code)).collect();
        if codes != wanted {
            return Err("greedy codes differ from PyTorch's".into());
        }
        compared += 1;
    }
    println!("the greedy codes of {compared} classes are PyTorch's");
    if compared * 2 < classes { Err("too few classes are sure".into()) } else { Ok(()) }
}

/// Samples of every class in turn, which the bundled classifier reads.
fn samples(gpu: &Gpu, precision: Precision, count: usize) -> Result<(), Failed> {
    let device = || Device::Gpu(gpu.clone());
    let mut vqgan = Vqgan::from_folder(folder("digits-vqgan"), device(), precision)?;
    let mut classifier = Classifier::from_folder(folder("digits-vit"), device(), Precision::F32)?;
    let Conditions::Classes(names) = vqgan.conditions().clone() else {
        return Err("it has no classes".into());
    };
    let mut right = 0;
    for first in (0..count).step_by(50) {
        let pictures = first..count.min(first + 50);
        let request = Request {
            conditions: pictures.clone().map(|i| Condition::Class(i % names.len())).collect(),
            seeds: pictures.clone().map(|i| i as u64).collect(),
            ..Request::default()
        };
        let samples = vqgan.sample_blocking(&request, &mut ())?;
        let read: Vec<Picture> = samples.iter().map(|sample| light(&sample.picture)).collect();
        let answers = classifier.classify_blocking(&read)?;
        for ((sample, answer), i) in samples.iter().zip(&answers).zip(pictures) {
            let label = answer.top(1).first().map_or("", |&(class, _)| classifier.label(class));
            right += usize::from(shows(&sample.picture, &names[i % names.len()], label));
        }
    }
    println!("{right} of {count} show the digit and the colour that were asked for");
    if right * 5 < count * 4 { Err(format!("{right} of {count} are too few").into()) } else { Ok(()) }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let tier = gpu.as_ref().ok().map(Gpu::tier);
    let software = tier.is_some_and(|tier| tier.software);
    let without = tier.is_some_and(|tier| !tier.f16);
    // SwiftShader, which has no f16 either, computes a tenth as fast as others.
    let (some, few) = if software && without { (10, 10) } else { (60, 20) };
    let unless = |ignored: bool, trial: Trial| if ignored { trial.with_ignored_flag(true) } else { trial };
    let all = |gpu: &Gpu| {
        reconstructions(gpu, Precision::F32, ALL)?;
        samples(gpu, Precision::F32, ALL)
    };
    let f32 = move |gpu: &Gpu| {
        reconstructions(gpu, Precision::F32, few)?;
        samples(gpu, Precision::F32, some)
    };
    let f16 = move |gpu: &Gpu| {
        reconstructions(gpu, Precision::F16, few)?;
        samples(gpu, Precision::F16, few)
    };
    vec![
        crate::trial("glyphs::greedy".into(), gpu, move |gpu| greedy(gpu, some)),
        crate::trial("glyphs::some_f32".into(), gpu, f32),
        unless(without, crate::trial("glyphs::some_f16".into(), gpu, f16)),
        unless(software, crate::trial("glyphs::all".into(), gpu, all)),
    ]
}
