//! `kiln detect`: objects in pictures.

mod annotate;
mod attention;
mod drawings;
mod report;
mod segments;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kiln::engine::Precision;
use kiln::models::coco::{Dataset, Summary, evaluate};
use kiln::models::image::{HeatMap, Picture};
use kiln::models::{Detection, Detector, SegmentOptions};

use crate::Outcome;
use crate::bundled::{self, MODEL_HELP, picture_files, read_picture};
use crate::classify::open;
use crate::device::{DeviceArgs, PrecisionKind};
use crate::output::{Pending, bar, say};
use drawings::Drawings;
use report::Report;

pub use annotate::annotated;
pub use attention::page;
pub use report::Found;

/// Largest annotations file.
const MAX_JSON: u64 = 4 << 30;

/// Find objects in pictures.
#[derive(clap::Args)]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// Pictures: files, folders, patterns.
    #[arg(required_unless_present = "eval")]
    pictures: Vec<String>,
    /// Least probability of what counts as found.
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = share)]
    threshold: f32,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
    /// Pictures computed at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: u32,
    /// Write the pictures with boxes and labels into this folder.
    #[arg(long, value_name = "FOLDER")]
    annotate: Option<PathBuf>,
    /// Write what each query looked at into this folder: the decoder's last attention, an object a tile.
    #[arg(long, value_name = "FOLDER")]
    attention: Option<PathBuf>,
    /// Cut the pictures into segments, and write them painted into this folder. For models with a head for masks.
    #[arg(long, value_name = "FOLDER")]
    segment: Option<PathBuf>,
    /// A class whose segments are one, as a sky is; may be repeated.
    #[arg(long, value_name = "LABEL", requires = "segment")]
    fuse: Vec<String>,
    /// Write COCO JSON: with --eval a list of results, else images, annotations and categories.
    #[arg(long, value_name = "FILE.json")]
    coco: Option<PathBuf>,
    /// Write a table: picture, label, score, left, top, right, bottom.
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Judge what is found by COCO annotations. Their pictures are those of the folder given, or lie beside the file.
    #[arg(long, value_name = "ANNOTATIONS.json")]
    eval: Option<PathBuf>,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1 is wanted".into()),
    }
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let coco = args.coco.as_deref().map(Pending::create).transpose()?;
    let csv = args.csv.as_deref().map(Pending::create).transpose()?;
    let dataset = args.eval.as_deref().map(annotations).transpose()?;
    let files = match &dataset {
        Some(dataset) => evaluated(args, dataset)?,
        None => picture_files(&args.pictures)?,
    };
    let drawings = Drawings::plan(args, &files)?;
    let mut detector = bundled::detector(&args.model, open(device)?, Precision::from(args.precision))?;
    detector.set_max_batch(args.batch as usize);
    if args.segment.is_some() && !detector.model().config().masks {
        bail!("{} has no head for masks, which --segment wants", args.model);
    }
    let options = SegmentOptions {
        threshold: args.threshold,
        fuse: args.fuse.iter().map(|name| class(&detector, name)).collect::<Result<_>>()?,
        ..SegmentOptions::default()
    };
    let mut report = Report::new(&detector, dataset.as_ref())?;
    let mut refused = 0;
    let progress = bar(files.len(), "pictures");
    // A few batches at once, so that pictures of similar sizes meet.
    for (first, chunk) in files.chunks(4 * args.batch as usize).enumerate() {
        let mut good = Vec::new();
        for (i, path) in chunk.iter().enumerate() {
            match read_picture(path) {
                Ok(picture) => good.push((first * 4 * args.batch as usize + i, path, picture)),
                Err(error) => {
                    refused += 1;
                    progress.suspend(|| eprintln!("error: {error}"));
                }
            }
        }
        let pictures: Vec<Picture> = good.iter().map(|(.., picture)| picture.clone()).collect();
        let found = look(&mut detector, &pictures, args.attention.is_some())?;
        let cut = match args.segment {
            Some(_) => detector.segment_blocking(&pictures, &options)?,
            None => Vec::new(),
        };
        for (i, ((index, path, picture), (all, maps))) in good.iter().zip(found).enumerate() {
            let found = Found { index: *index, path, picture, all: &all, threshold: args.threshold };
            if dataset.is_none() {
                progress.suspend(|| {
                    print(&found, &detector);
                    cut.get(i).into_iter().for_each(|cut| segments::print(cut, &detector));
                });
            }
            drawings.write(&found, maps, cut.get(i), &detector)?;
            report.add(&found);
        }
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    if let Some(dataset) = &dataset {
        show(&evaluate(dataset, &report.results)?);
    }
    if let Some(pending) = coco {
        pending.commit(&report.coco()?)?;
    }
    if let Some(pending) = csv {
        pending.commit(report.csv.as_bytes())?;
    }
    Ok(if refused == 0 { Outcome::Done } else { Outcome::BadInput })
}

/// What is found in each picture, and, if that is asked for, where each query looked.
fn look(
    detector: &mut Detector,
    pictures: &[Picture],
    attention: bool,
) -> Result<Vec<(Vec<Detection>, Vec<HeatMap>)>> {
    Ok(if attention {
        let found = detector.detect_with_attention_blocking(pictures)?;
        found.into_iter().map(|objects| objects.into_iter().unzip()).collect()
    } else {
        detector.detect_blocking(pictures)?.into_iter().map(|objects| (objects, Vec::new())).collect()
    })
}

/// The number of a class.
fn class(detector: &Detector, name: &str) -> Result<usize> {
    let found = detector.labels().iter().position(|label| label == name);
    found.with_context(|| format!("--fuse names {name:?}, which is no class of the model"))
}

fn annotations(path: &Path) -> Result<Dataset> {
    let name = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{name} cannot be read"))?.len();
    if size > MAX_JSON {
        bail!("{name} has {size} bytes, and at most {MAX_JSON} are read");
    }
    let bytes = std::fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    Dataset::from_json(&bytes).map_err(|error| anyhow::anyhow!("{name}: {error}"))
}

/// The pictures of annotations, in their order.
fn evaluated(args: &Args, dataset: &Dataset) -> Result<Vec<PathBuf>> {
    let folder = match (&args.pictures[..], args.eval.as_deref().and_then(Path::parent)) {
        ([folder], _) if Path::new(folder).is_dir() => PathBuf::from(folder),
        ([], Some(beside)) => beside.to_path_buf(),
        _ => bail!("--eval wants one folder that holds the annotations' pictures"),
    };
    Ok(dataset.images.iter().map(|image| folder.join(&image.file_name)).collect())
}

/// What is likelier than the threshold.
fn above(all: &[Detection], threshold: f32) -> impl Iterator<Item = &Detection> {
    all.iter().filter(move |detection| detection.score > threshold)
}

fn print(found: &Found, detector: &Detector) {
    say!("{}", found.path.display());
    let mut any = false;
    for Detection { label, score, corners: [left, top, right, bottom] } in above(found.all, found.threshold) {
        any = true;
        let name = detector.label(*label);
        say!("  {:5.1} %  {name}  {left:.1}, {top:.1} to {right:.1}, {bottom:.1}", score * 100.0);
    }
    if !any {
        say!("  nothing above {:.1} %", found.threshold * 100.0);
    }
}

fn show(summary: &Summary) {
    let [small, medium, large] = summary.ap_by_area;
    say!("AP      {:.4}  (mean over overlaps of 0.50 to 0.95)", summary.ap);
    say!("AP50    {:.4}", summary.ap50);
    say!("AP75    {:.4}", summary.ap75);
    say!("AP      {small:.4} small, {medium:.4} medium, {large:.4} large");
    let [one, ten, hundred] = summary.ar;
    say!("AR      {one:.4} with 1, {ten:.4} with 10, {hundred:.4} with 100 a picture");
    let [small, medium, large] = summary.ar_by_area;
    say!("AR      {small:.4} small, {medium:.4} medium, {large:.4} large  (-1: there are none)");
}
