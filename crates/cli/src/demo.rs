//! `kiln demo`: what the bundled models do, on this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln::engine::Precision;
use kiln::graph::DType;
use kiln::models::image::Picture;
use kiln::models::{Classification, Device};

use crate::Outcome;
use crate::bundled::{self, digit_samples};
use crate::classify::heat_map;
use crate::device::{DeviceArgs, DeviceKind};
use crate::gallery::{Tile, gallery};
use crate::output::{Pending, say, spinner};

/// Run the bundled models and write what they make.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "kiln-demo")]
    out: PathBuf,
}

/// What a section has to work with.
struct Demo<'a> {
    device: Device,
    out: &'a Path,
    written: Vec<PathBuf>,
}

/// A model family's part of the demo.
struct Section {
    title: &'static str,
    run: fn(&mut Demo) -> Result<()>,
}

const SECTIONS: &[Section] =
    &[Section { title: "Classification: a ViT reads handwritten digits", run: classification }];

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{} cannot be made a folder", args.out.display()))?;
    let waiting = spinner("opening the device");
    let chosen = device.choose(DeviceKind::Auto);
    waiting.finish_and_clear();
    let device = match chosen? {
        Ok(gpu) => {
            let kind = if gpu.tier().software { "the software rasteriser" } else { "the GPU" };
            say!("Running on {kind} {}: the best adapter there is.", gpu.describe());
            Device::Gpu(gpu)
        }
        Err(reason) => {
            say!("Running on the CPU reference, since {reason}.");
            Device::Cpu
        }
    };
    let mut demo = Demo { device, out: &args.out, written: Vec::new() };
    for section in SECTIONS {
        say!("\n{}", section.title);
        (section.run)(&mut demo)?;
    }
    say!("\nWritten:");
    for path in &demo.written {
        say!("  {}", path.display());
    }
    Ok(Outcome::Done)
}

impl Demo<'_> {
    fn write(&mut self, name: &str, picture: &Picture) -> Result<()> {
        let path = self.out.join(name);
        Pending::create(&path)?.commit(&picture.to_png()?)?;
        self.written.push(path);
        Ok(())
    }
}

/// A result and how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let progress = spinner(what);
    let start = Instant::now();
    let result = work();
    progress.finish_and_clear();
    Ok((result?, start.elapsed()))
}

fn classification(demo: &mut Demo) -> Result<()> {
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
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    say!(
        "  first batch {:.0} ms with compilation, then {:.1} ms a batch of {}",
        ms(first),
        ms(again),
        pictures.len()
    );

    if matches!(demo.device, Device::Gpu(_)) {
        let mut reference = bundled::classifier("digits", Device::Cpu, Precision::F32)?;
        let (wanted, time) =
            timed("computing the CPU reference", || Ok(reference.classify_blocking(&pictures)?))?;
        let (max_abs, nmse) = error(&wanted, &answers)?;
        say!(
            "  against the CPU reference ({:.0} ms): largest error of a logit {max_abs:.1e}, NMSE {nmse:.1e}",
            ms(time)
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
    demo.write("gallery.png", &gallery(&tiles, 5, 160))
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
