//! `kiln sample`: pictures by models that write their codes, and by GANs.

mod amused;
mod batches;
mod gan;
mod kind;
mod vqgan;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::Outcome;
use crate::bundled;
use crate::device::{DeviceArgs, PrecisionKind};
use crate::made::{SEED_MASK, fresh_seed};
use crate::output::say;
use kind::Kind;

/// Make pictures by a VQGAN, by aMUSEd or by a GAN.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a VQGAN of two stages, of an AmusedPipeline or of a GAN's generator; hub:owner/name; or glyphs, which is bundled.
    model: String,
    /// How many pictures, of each class where classes are named.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Pictures computed at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// The first picture's seed; the others' follow it [default: a new one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=SEED_MASK))]
    seed: Option<u64>,
    /// Where the pictures go: a file, where there is one, or a folder.
    #[arg(long, value_name = "PATH", default_value = "sampled")]
    out: PathBuf,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,

    /// Width and height in pixels, as 384x256 [default: the model's own]. A VQGAN writes larger pictures through a window.
    #[arg(long, value_name = "WxH", value_parser = crate::made::size, help_heading = "VQGAN and aMUSEd")]
    size: Option<[usize; 2]>,
    /// A picture whose upper part stays.
    #[arg(long, value_name = "PICTURE", help_heading = "VQGAN and aMUSEd")]
    complete: Option<PathBuf>,
    /// How much of it stays.
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.5,
        requires = "complete",
        help_heading = "VQGAN and aMUSEd"
    )]
    keep: f64,
    /// Divides what a VQGAN's codes score: less than 1 for what is usual, 0 always for the likeliest [default: 1]. With aMUSEd,
    /// how much chance has to say at the first step in which codes stay [default: 2]; at the last it has nothing to say.
    #[arg(long, value_name = "T", help_heading = "VQGAN and aMUSEd")]
    temperature: Option<f32>,
    /// Write a preview beside each picture after every so many rows of a VQGAN's codes, or steps of aMUSEd.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u32).range(1..), help_heading = "VQGAN and aMUSEd")]
    preview: Option<u32>,

    /// What the pictures are to show: a class by its number or its name. May be repeated [default: any].
    #[arg(long, value_name = "CLASS", conflicts_with = "map", help_heading = "VQGAN")]
    class: Vec<String>,
    /// What the pictures are to show: a map of depth or segments, a picture.
    #[arg(long, value_name = "PICTURE", help_heading = "VQGAN")]
    map: Option<PathBuf>,
    /// List the classes that the model knows.
    #[arg(long, help_heading = "VQGAN")]
    classes: bool,
    /// Draw of so many codes that are likeliest; 0 of all [default: 100].
    #[arg(long, value_name = "K", help_heading = "VQGAN")]
    top_k: Option<usize>,
    /// Draw of the likeliest codes that together have this probability [default: 1].
    #[arg(long, value_name = "P", help_heading = "VQGAN")]
    top_p: Option<f32>,

    /// What the pictures are to show.
    #[arg(long, value_name = "TEXT", help_heading = "aMUSEd")]
    prompt: Option<String>,
    /// What the pictures are not to show.
    #[arg(long, value_name = "TEXT", help_heading = "aMUSEd")]
    negative: Option<String>,
    /// Steps in which codes are drawn [default: 12].
    #[arg(long, value_name = "N", help_heading = "aMUSEd")]
    steps: Option<usize>,
    /// How strongly the prompt leads; up to 1 not at all [default: 10].
    #[arg(long, value_name = "G", help_heading = "aMUSEd")]
    guidance: Option<f32>,
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let started = Instant::now();
    let files = bundled::files(&args.model)?;
    let kind = Kind::of(&args.model, &files)?;
    kind.admit(args)?;
    match kind {
        Kind::Vqgan => vqgan::run(args, &files, device)?,
        Kind::Amused => amused::run(args, &files, device)?,
        Kind::Gan => gan::run(args, &files, device)?,
    }
    if !args.classes {
        say!("{:.1} s in all", started.elapsed().as_secs_f64());
    }
    Ok(Outcome::Done)
}

impl Args {
    /// So many seeds: the first, and those that follow it.
    fn seeds(&self, count: usize) -> Vec<u64> {
        let first = self.seed.unwrap_or_else(fresh_seed);
        (0..count as u64).map(|i| first.wrapping_add(i) & SEED_MASK).collect()
    }

    /// How many of so many rows of codes stay of a picture that is to be completed.
    fn kept(&self, rows: usize) -> Result<usize> {
        if !(0.0..=1.0).contains(&self.keep) {
            bail!("--keep {} is no share from 0 to 1", self.keep);
        }
        Ok((self.keep * rows as f64).round() as usize)
    }
}
