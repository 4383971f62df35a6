//! `kiln demo`: what the bundled models do, on this machine.

mod classification;
mod codes;
mod detection;
mod generation;
mod judge;
mod reading;
#[cfg(test)]
mod tests;
mod things;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln::models::Device;
use kiln::models::image::Picture;

use crate::Outcome;
use crate::device::{DeviceArgs, DeviceKind};
use crate::gallery::stack;
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
    /// The gallery's parts.
    pages: Vec<Picture>,
}

/// A model family's part of the demo.
struct Section {
    title: &'static str,
    run: fn(&mut Demo) -> Result<()>,
}

const SECTIONS: &[Section] = &[
    Section { title: "Classification: a ViT reads handwritten digits", run: classification::run },
    Section { title: "Detection: a DETR finds handwritten digits in scenes", run: detection::run },
    Section { title: "Generation: latent diffusion makes scenes of captions", run: generation::run },
    Section { title: "Codes: a VQGAN compresses digits, and writes digits of a class", run: codes::run },
];

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
    let mut demo = Demo { device, out: &args.out, written: Vec::new(), pages: Vec::new() };
    for section in SECTIONS {
        say!("\n{}", section.title);
        (section.run)(&mut demo)?;
    }
    let page = stack(&demo.pages);
    demo.write("gallery.png", &page)?;
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

/// How long the first batch took, and the next one.
fn say_times(first: Duration, again: Duration, pictures: usize) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    say!(
        "  first batch {:.0} ms with compilation, then {:.1} ms a batch of {pictures}",
        ms(first),
        ms(again)
    );
}
