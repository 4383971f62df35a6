//! The part of classification: a ViT reads handwritten digits.

use anyhow::Result;
use kiln::engine::Precision;
use kiln::graph::DType;
use kiln::models::image::Picture;
use kiln::models::{Classification, Device};

use super::{Demo, say_times, timed};
use crate::bundled::{self, digit_samples};
use crate::classify::heat_map;
use crate::gallery::{Tile, gallery};
use crate::output::say;

pub(super) fn run(demo: &mut Demo) -> Result<()> {
    let samples = digit_samples()?;
    let pictures: Vec<Picture> = samples.iter().map(|(_, _, picture)| picture.clone()).collect();
    let mut classifier = bundled::classifier("digits", demo.device.clone(), Precision::F32)?;
    let (answers, first) =
        timed("compiling and classifying", || Ok(classifier.classify_blocking(&pictures)?))?;
    let (_, again) = timed("classifying", || Ok(classifier.classify_blocking(&pictures)?))?;
    let mut right = 0;
    for ((name, label, _), answer) in samples.iter().zip(&answers) {
        let (class, probability) = answer.top(1).first().copied().unwrap_or_default();
        let found = classifier.label(class);
        right += usize::from(found == *label);
        let mark = if found == *label { "" } else { "   (wrong)" };
        say!("  {name:<24} {found:<6} {:5.1} %{mark}", probability * 100.0);
    }
    say!("  {right} of {} right", samples.len());
    say_times(first, again, pictures.len());

    if matches!(demo.device, Device::Gpu(_)) {
        let mut reference = bundled::classifier("digits", Device::Cpu, Precision::F32)?;
        let (wanted, time) =
            timed("computing the CPU reference", || Ok(reference.classify_blocking(&pictures)?))?;
        let (max_abs, nmse) = error(&wanted, &answers)?;
        say!(
            "  against the CPU reference ({:.0} ms): largest error of a logit {max_abs:.1e}, NMSE {nmse:.1e}",
            time.as_secs_f64() * 1e3
        );
    }

    let (mapped, _) =
        timed("computing attention maps", || Ok(classifier.classify_with_attention_blocking(&pictures)?))?;
    let mut tiles = Vec::new();
    for ((name, _, picture), answer) in samples.iter().zip(&mapped) {
        let (class, probability) = answer.top(1).first().copied().unwrap_or_default();
        let lines = vec![classifier.label(class).to_string(), format!("{:.1} %", probability * 100.0)];
        tiles.push(Tile { picture: picture.clone(), lines });
        demo.write(&format!("attention-{name}"), &heat_map(picture, answer))?;
    }
    demo.pages.push(gallery(&tiles, 5, 160));
    Ok(())
}

/// Largest absolute error and NMSE of the logits.
fn error(wanted: &[Classification], found: &[Classification]) -> Result<(f64, f64)> {
    use kiln::graph::Tensor;
    use kiln::graph::numerics::{Gate, compare};
    let tensor = |answers: &[Classification]| {
        let values: Vec<f32> = answers.iter().flat_map(|answer| answer.logits.clone()).collect();
        Tensor::f32([values.len()], values)
    };
    let found = compare(&tensor(wanted)?, &tensor(found)?, Gate::default_for(DType::F32), None);
    Ok((found.max_abs, found.nmse))
}
