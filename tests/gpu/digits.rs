//! The bundled digits model against what PyTorch made of the same 360 pictures.

use std::path::Path;
use std::sync::Arc;

use kiln::engine::{Gpu, Precision};
use kiln::graph::Tensor;
use kiln::models::image::Picture;
use kiln::models::weights::{Files, Folder, SafeTensors};
use kiln::models::{Classifier, Device};
use libtest_mimic::{Failed, Trial};

/// The first 180 pictures chose the recipe; the others report.
const REPORTING: usize = 180;

fn held_out_digits(gpu: &Gpu, precision: Precision, tolerance: f64) -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/digits-vit");
    let files: Arc<dyn Files> = Arc::new(Folder::new(&folder));
    let held_out = SafeTensors::open(files, "heldout.safetensors")?;
    let integers = |name: &str| -> Result<Vec<usize>, Failed> {
        Ok(held_out.load(name)?.to_f64().iter().map(|&v| v as usize).collect())
    };
    let (labels, predicted) = (integers("labels")?, integers("predicted")?);
    let logits: Tensor = held_out.load("logits")?;
    let images = held_out.load("images")?;
    let &[count, height, width] = images.shape() else { return Err("images have no three axes".into()) };
    let pictures = images.to_f64();
    let pictures = pictures
        .chunks_exact(height * width)
        .map(|image| Picture::new(width, height, image.iter().flat_map(|&v| [v as u8; 3]).collect()));
    let pictures: Vec<Picture> = pictures.collect::<Result<_, _>>()?;
    let mut classifier = Classifier::from_folder(folder, Device::Gpu(gpu.clone()), precision)?;
    classifier.set_max_batch(90);
    let answers = classifier.classify_blocking(&pictures)?;
    let found: Vec<usize> = answers.iter().map(|answer| answer.class()).collect();
    if found.len() != count || found != predicted {
        let other = found.iter().zip(&predicted).filter(|(a, b)| a != b).count();
        return Err(format!("{other} of {count} labels are not PyTorch's").into());
    }
    let right = found.iter().zip(&labels).skip(REPORTING).filter(|(a, b)| a == b).count();
    let reported = count - REPORTING;
    if right * 100 < reported * 97 {
        return Err(format!("{right} of {reported} are right").into());
    }
    let worst = answers
        .iter()
        .flat_map(|answer| answer.logits.iter())
        .zip(logits.to_f64())
        .map(|(&a, b)| (f64::from(a) - b).abs())
        .fold(0.0, f64::max);
    println!("{right} of {reported} right, largest error of a logit {worst:.1e}");
    if worst > tolerance { Err(format!("a logit is {worst:.1e} away from PyTorch's").into()) } else { Ok(()) }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let f32 =
        crate::trial("digits::held_out_f32".into(), gpu, |gpu| held_out_digits(gpu, Precision::F32, 1e-4));
    let f16 = crate::trial("digits::held_out_f16".into(), gpu, |gpu| {
        // The least gap between two logits is 0.3.
        held_out_digits(gpu, Precision::F16, 0.1)
    });
    let without = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    vec![f32, if without { f16.with_ignored_flag(true) } else { f16 }]
}
