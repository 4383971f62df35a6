//! The bundled detector on the thousand scenes that it is reported on, against what PyTorch finds in them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln::engine::{Gpu, Precision};
use kiln::graph::Tensor;
use kiln::models::coco::{Annotation, Category, Dataset, Detected, Image, Summary, evaluate};
use kiln::models::image::Picture;
use kiln::models::weights::{Files, Folder, SafeTensors};
use kiln::models::{Detection, Detector, Device};
use libtest_mimic::{Failed, Trial};

/// Pixels of a scene's side, and scenes a row and a column of a sheet.
const SIDE: usize = 128;
const ROW: usize = 10;

/// Sheets for devices that take minutes for all ten.
const FEW: usize = 1;

/// What precision leads to: the largest error of a score and of a corner in pixels, where PyTorch is sure.
struct Tolerance {
    score: f64,
    corner: f64,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/scenes-detr")
}

/// The scenes of a sheet, row by row.
fn scenes(sheet: usize) -> Result<Vec<Picture>, Failed> {
    let path = folder().join(format!("heldout/sheet-{sheet}.webp"));
    let sheet = Picture::decode(&std::fs::read(path)?)?;
    let cut = |i: usize| {
        let (left, top) = (i % ROW * SIDE, i / ROW * SIDE);
        let lines = (top..top + SIDE).flat_map(|y| &sheet.rgb[(y * sheet.width + left) * 3..][..SIDE * 3]);
        Picture::new(SIDE, SIDE, lines.copied().collect())
    };
    Ok((0..ROW * ROW).map(cut).collect::<Result<_, _>>()?)
}

/// What PyTorch found, and what is there.
struct Answers {
    scores: Tensor,
    labels: Tensor,
    boxes: Tensor,
    truth: Dataset,
}

impl Answers {
    fn open(scenes: usize) -> Result<Self, Failed> {
        let files: Arc<dyn Files> = Arc::new(Folder::new(folder().join("heldout")));
        let file = SafeTensors::open(files, "answers.safetensors")?;
        let integers = |name: &str| -> Result<Vec<i64>, Failed> {
            Ok(file.load(name)?.to_f64().iter().map(|&v| v as i64).collect())
        };
        let (images, labels, boxes) =
            (integers("true_images")?, integers("true_labels")?, integers("true_boxes")?);
        let objects = images.iter().zip(&labels).zip(boxes.chunks_exact(4));
        let annotations = objects.map(|((&image_id, &category_id), at)| {
            let [left, top, right, bottom] = [at[0], at[1], at[2], at[3]].map(|v| v as f64);
            let bbox = [left, top, right - left, bottom - top];
            Annotation { image_id, category_id, bbox, area: None, iscrowd: 0 }
        });
        let truth = Dataset {
            images: (0..scenes as i64).map(|id| Image { id, ..Image::default() }).collect(),
            annotations: annotations.filter(|a| a.image_id < scenes as i64).collect(),
            categories: (0..10).map(|id| Category { id, ..Category::default() }).collect(),
        };
        let load = |name| file.load(name);
        Ok(Self { scores: load("scores")?, labels: load("labels")?, boxes: load("boxes")?, truth })
    }

    /// PyTorch's detections of a scene, query by query.
    fn detections(&self, scene: usize) -> Vec<Detection> {
        let queries = self.scores.shape()[1];
        let (scores, labels, boxes) = (self.scores.to_f32(), self.labels.to_f64(), self.boxes.to_f32());
        let own = scene * queries..(scene + 1) * queries;
        own.map(|i| Detection {
            label: labels[i] as usize,
            score: scores[i],
            corners: [boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]],
        })
        .collect()
    }

    fn measure(&self, found: &[Vec<Detection>]) -> Result<Summary, Failed> {
        let list = found.iter().enumerate().flat_map(|(scene, objects)| {
            objects.iter().map(move |object| {
                let [left, top, right, bottom] = object.corners.map(f64::from);
                let bbox = [left, top, (right - left).max(0.0), (bottom - top).max(0.0)];
                let (image_id, category_id) = (scene as i64, object.label as i64);
                Detected { image_id, category_id, bbox, score: f64::from(object.score) }
            })
        });
        Ok(evaluate(&self.truth, &list.collect::<Vec<_>>())?)
    }
}

/// Largest errors of scores and corners of what PyTorch is sure of; each is compared with the nearest of its class.
fn errors(wanted: &[Detection], found: &[Detection]) -> Result<(f64, f64), Failed> {
    let mut by_label: HashMap<usize, Vec<&Detection>> = HashMap::new();
    for object in found {
        by_label.entry(object.label).or_default().push(object);
    }
    let mut worst = (0.0_f64, 0.0_f64);
    // Between 0.5 and this, another precision may take another class for the likeliest.
    for object in wanted.iter().filter(|object| object.score > 0.7) {
        let apart = |other: &&&Detection| {
            let corners = object.corners.iter().zip(other.corners);
            corners.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
        };
        let same = by_label.get(&object.label).map(Vec::as_slice).unwrap_or_default();
        let nearest = same.iter().min_by(|a, b| apart(a).total_cmp(&apart(b)));
        let nearest = nearest.ok_or_else(|| format!("nothing like {object:?} was found"))?;
        let score = f64::from((object.score - nearest.score).abs());
        worst = (worst.0.max(score), worst.1.max(apart(&nearest)));
    }
    Ok(worst)
}

fn held_out(gpu: &Gpu, precision: Precision, tolerance: &Tolerance) -> Result<(), Failed> {
    // SwiftShader, which has no f16 either, computes a tenth as fast as others.
    let sheets = if gpu.tier().software && !gpu.tier().f16 { FEW } else { 10 };
    let answers = Answers::open(sheets * ROW * ROW)?;
    let mut detector = Detector::from_folder(folder(), Device::Gpu(gpu.clone()), precision)?;
    detector.set_max_batch(50);
    let (mut found, mut wanted) = (Vec::new(), Vec::new());
    let mut worst = (0.0_f64, 0.0_f64);
    for sheet in 0..sheets {
        for objects in detector.detect_blocking(&scenes(sheet)?)? {
            let theirs = answers.detections(found.len());
            let (score, corner) = errors(&theirs, &objects)?;
            worst = (worst.0.max(score), worst.1.max(corner));
            found.push(objects);
            wanted.push(theirs);
        }
    }
    let (ours, theirs) = (answers.measure(&found)?, answers.measure(&wanted)?);
    println!(
        "{} scenes: AP50 {:.4}, AP75 {:.4} (PyTorch {:.4}, {:.4}); largest error of a score {:.1e}, of a corner {:.1e} pixels",
        found.len(),
        ours.ap50,
        ours.ap75,
        theirs.ap50,
        theirs.ap75,
        worst.0,
        worst.1
    );
    if sheets == 10 && (ours.ap50 < 0.94 || ours.ap75 < 0.88) {
        return Err("it finds too little".into());
    }
    if (ours.ap50 - theirs.ap50).abs().max((ours.ap75 - theirs.ap75).abs()) > 0.005 {
        return Err("PyTorch finds another share".into());
    }
    if worst.0 > tolerance.score || worst.1 > tolerance.corner {
        return Err("something is found elsewhere, or with another score".into());
    }
    Ok(())
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let f32 = crate::trial("scenes::held_out_f32".into(), gpu, |gpu| {
        held_out(gpu, Precision::F32, &Tolerance { score: 1e-4, corner: 1e-2 })
    });
    let f16 = crate::trial("scenes::held_out_f16".into(), gpu, |gpu| {
        held_out(gpu, Precision::F16, &Tolerance { score: 0.1, corner: 1.0 })
    });
    let without = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    vec![f32, if without { f16.with_ignored_flag(true) } else { f16 }]
}
