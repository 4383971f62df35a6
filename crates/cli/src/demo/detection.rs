//! The part of detection: a DETR finds handwritten digits in scenes.

use std::path::Path;

use anyhow::Result;
use kiln::engine::Precision;
use kiln::models::coco::{Annotation, Dataset};
use kiln::models::image::Picture;
use kiln::models::{Detection, Detector, Device};

use super::{Demo, say_times, timed};
use crate::bundled::{self, scene_samples};
use crate::detect::{Found, annotated, page};
use crate::gallery::{Tile, gallery};
use crate::output::say;

/// Least probability of what counts as found.
const THRESHOLD: f32 = 0.5;
/// Least overlap of a found box with a true one.
const OVERLAP: f64 = 0.5;
/// Scenes that are also computed by the CPU reference, which takes its time.
const COMPARED: usize = 2;

pub(super) fn run(demo: &mut Demo) -> Result<()> {
    let (samples, truth) = scene_samples()?;
    let pictures: Vec<Picture> = samples.iter().map(|(_, picture)| picture.clone()).collect();
    let mut detector = bundled::detector("scenes", demo.device.clone(), Precision::F32)?;
    let (found, first) = timed("compiling and detecting", || Ok(detector.detect_blocking(&pictures)?))?;
    let (_, again) = timed("detecting", || Ok(detector.detect_blocking(&pictures)?))?;
    let (mut right, mut wrong) = (0, 0);
    for ((name, _), objects) in samples.iter().zip(&found) {
        let objects: Vec<Detection> = sure(objects).collect();
        let hits = hits(name, &objects, &truth, &detector);
        let labels: Vec<&str> = objects.iter().map(|object| detector.label(object.label)).collect();
        (right, wrong) = (right + hits, wrong + objects.len() - hits);
        let mark = if hits < objects.len() { "   (not all right)" } else { "" };
        say!("  {name:<16} {}{mark}", labels.join(", "));
    }
    let all = truth.annotations.len();
    say!("  {right} of {all} digits found where they are, {wrong} that are not there");
    say_times(first, again, pictures.len());

    if matches!(demo.device, Device::Gpu(_)) {
        let mut reference = bundled::detector("scenes", Device::Cpu, Precision::F32)?;
        let some = &pictures[..COMPARED.min(pictures.len())];
        let (wanted, time) = timed("computing the CPU reference", || Ok(reference.detect_blocking(some)?))?;
        let (score, corner) = error(&wanted, &found);
        say!(
            "  against the CPU reference ({:.0} ms for {}): largest error of a score {score:.1e}, of a box {corner:.1e} pixels",
            time.as_secs_f64() * 1e3,
            some.len()
        );
    }

    let mut tiles = Vec::new();
    for (index, ((name, picture), all)) in samples.iter().zip(&found).enumerate() {
        let found = Found { index, path: Path::new(name), picture, all, threshold: THRESHOLD };
        let picture = annotated(&found, &detector);
        demo.write(&format!("detected-{name}"), &picture)?;
        tiles.push(Tile { picture, lines: Vec::new() });
    }
    if let Some((name, picture)) = samples.first() {
        let seen = detector.detect_with_attention_blocking(std::slice::from_ref(picture))?;
        let seen = seen.first().map(Vec::as_slice).unwrap_or_default();
        demo.write(&format!("attention-{name}"), &page(picture, seen, THRESHOLD, &detector))?;
    }
    demo.pages.push(gallery(&tiles, 4, 320));
    Ok(())
}

fn sure(objects: &[Detection]) -> impl Iterator<Item = Detection> {
    objects.iter().copied().filter(|object| object.score > THRESHOLD)
}

/// How many of a scene's true digits are among the objects, each counted once.
fn hits(name: &str, objects: &[Detection], truth: &Dataset, detector: &Detector) -> usize {
    let image = truth.images.iter().find(|image| image.file_name == name).map(|image| image.id);
    let mut left: Vec<&Annotation> = truth.annotations.iter().filter(|a| Some(a.image_id) == image).collect();
    let category = |id: i64| truth.categories.iter().find(|c| c.id == id).map(|c| c.name.as_str());
    let mut hits = 0;
    for object in objects {
        let is_it = |a: &&Annotation| {
            category(a.category_id) == Some(detector.label(object.label)) && overlap(object, a.bbox) > OVERLAP
        };
        if let Some(at) = left.iter().position(is_it) {
            left.swap_remove(at);
            hits += 1;
        }
    }
    hits
}

/// Intersection over union of an object and a box of left, top, width and height.
fn overlap(object: &Detection, [x, y, width, height]: [f64; 4]) -> f64 {
    let [left, top, right, bottom] = object.corners.map(f64::from);
    let across = (right.min(x + width) - left.max(x)).max(0.0);
    let down = (bottom.min(y + height) - top.max(y)).max(0.0);
    let both = across * down;
    both / ((right - left) * (bottom - top) + width * height - both).max(f64::MIN_POSITIVE)
}

/// Largest errors of scores, and of corners in pixels, of the objects that are wanted; each is compared with the nearest
/// that was found.
fn error(wanted: &[Vec<Detection>], found: &[Vec<Detection>]) -> (f32, f32) {
    let mut worst = (0.0_f32, 0.0_f32);
    for (wanted, found) in wanted.iter().zip(found) {
        for object in sure(wanted) {
            let apart = |other: &Detection| {
                let corners = object.corners.iter().zip(other.corners);
                corners.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
            };
            let same = found.iter().filter(|other| other.label == object.label);
            let Some(nearest) = same.min_by(|a, b| apart(a).total_cmp(&apart(b))) else {
                return (1.0, f32::INFINITY);
            };
            worst = (worst.0.max((object.score - nearest.score).abs()), worst.1.max(apart(nearest)));
        }
    }
    worst
}
