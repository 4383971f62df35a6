//! `kiln classify`: labels for pictures.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kiln::engine::Precision;
use kiln::models::image::{Picture, overlay};
use kiln::models::{Classification, Classifier, Device};
use serde_json::{Value as Json, json};

use crate::Outcome;
use crate::bundled::{self, MODEL_HELP, picture_files, read_picture};
use crate::device::{DeviceArgs, DeviceKind, PrecisionKind};
use crate::gallery::{Tile, fit, gallery};
use crate::output::{Pending, bar, say, spinner};
use crate::profile::kept_line;

/// Pictures a batch.
const BATCH: usize = 16;
/// Pixels of the shorter side of a heat map.
const MAP_SIDE: usize = 320;

/// Say what pictures show.
#[derive(clap::Args)]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// Pictures: files, folders, patterns.
    #[arg(required = true)]
    pictures: Vec<String>,
    /// How many classes to print for a picture.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
    /// Write a picture of where the model looked: its attention roll-out.
    #[arg(long, value_name = "FILE.png")]
    attention: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let attention = args.attention.as_deref().map(Pending::create).transpose()?;
    let files = picture_files(&args.pictures)?;
    let device = open(device)?;
    let mut classifier = bundled::classifier(&args.model, device, Precision::from(args.precision))?;
    classifier.set_max_batch(BATCH);
    let (mut results, mut tiles, mut refused) = (Vec::new(), Vec::new(), 0);
    let progress = bar(files.len(), "pictures");
    for chunk in files.chunks(BATCH) {
        let read: Vec<Result<Picture>> = chunk.iter().map(|path| read_picture(path)).collect();
        let good: Vec<Picture> = read.iter().flatten().cloned().collect();
        let answers = match attention {
            Some(_) => classifier.classify_with_attention_blocking(&good)?,
            None => classifier.classify_blocking(&good)?,
        };
        let mut answers = good.iter().zip(&answers);
        for (path, read) in chunk.iter().zip(&read) {
            match read {
                Err(error) => {
                    refused += 1;
                    progress.suspend(|| eprintln!("error: {error}"));
                    results
                        .push(json!({ "picture": path.display().to_string(), "error": error.to_string() }));
                }
                Ok(_) => {
                    let Some((picture, answer)) = answers.next() else { continue };
                    if args.json {
                        results.push(json_of(path, &classifier, answer, args.top_k));
                    } else {
                        progress.suspend(|| print(path, &classifier, answer, args.top_k));
                    }
                    if attention.is_some() {
                        tiles.push(map(path, picture, &classifier, answer));
                    }
                }
            }
        }
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    let half = args.precision == PrecisionKind::F16;
    if half && !args.json {
        say!("{}", kept_line(&classifier.kept_f32()));
    }
    if args.json {
        let report = json!({
            "model": args.model, "device": classifier.device().describe(),
            "precision": if half { "f16" } else { "f32" },
            "kept_f32": classifier.kept_f32(), "results": results,
        });
        say!("{}", serde_json::to_string_pretty(&report)?);
    }
    if let (Some(pending), false) = (attention, tiles.is_empty()) {
        let page = match &tiles[..] {
            [tile] => tile.picture.clone(),
            _ => gallery(&tiles, tiles.len().isqrt().max(4), MAP_SIDE),
        };
        pending.commit(&page.to_png()?)?;
    }
    Ok(if refused == 0 { Outcome::Done } else { Outcome::BadInput })
}

/// The device, telling on stderr where it is not a GPU though one might be expected.
pub fn open(device: &DeviceArgs) -> Result<Device> {
    let waiting = spinner("opening the device");
    let chosen = device.choose(DeviceKind::Auto);
    waiting.finish_and_clear();
    Ok(match chosen? {
        Ok(gpu) => Device::Gpu(gpu),
        Err(reason) => {
            if device.device != Some(DeviceKind::Cpu) {
                eprintln!("note: computing on the CPU reference, since {reason}");
            }
            Device::Cpu
        }
    })
}

fn print(path: &Path, classifier: &Classifier, answer: &Classification, top_k: u32) {
    say!("{}", path.display());
    for (class, probability) in answer.top(top_k as usize) {
        say!("  {:5.1} %  {}", probability * 100.0, classifier.label(class));
    }
}

fn json_of(path: &Path, classifier: &Classifier, answer: &Classification, top_k: u32) -> Json {
    let top: Vec<Json> = answer
        .top(top_k as usize)
        .into_iter()
        .map(|(class, p)| json!({ "class": class, "label": classifier.label(class), "probability": p }))
        .collect();
    json!({ "picture": path.display().to_string(), "top": top })
}

/// The picture under its heat map, large enough to see the patches.
pub fn heat_map(picture: &Picture, answer: &Classification) -> Picture {
    let shown =
        if picture.width.min(picture.height) < MAP_SIDE { fit(picture, MAP_SIDE) } else { picture.clone() };
    match &answer.attention {
        Some(map) => overlay(&shown, map),
        None => shown,
    }
}

fn map(path: &Path, picture: &Picture, classifier: &Classifier, answer: &Classification) -> Tile {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let label = classifier.label(answer.class()).to_string();
    Tile { picture: heat_map(picture, answer), lines: vec![label, name] }
}
