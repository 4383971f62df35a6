//! `kiln sample`: pictures whose codes a transformer writes.

mod ask;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kiln::engine::Precision;
use kiln::graph::sampling::Sampling;
use kiln::models::vqgan::{Request, Vqgan};

use crate::Outcome;
use crate::bundled::{self, read_picture};
use crate::classify::open;
use crate::device::{DeviceArgs, PrecisionKind};
use crate::made::{counted, fresh_seed, pending};
use crate::output::{Pending, say, spinner};
use ask::Ask;
use watch::Bar;

/// Make pictures of a class, or of a map, by VQGAN.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a VQGAN of two stages, hub:owner/name, or glyphs, which is bundled.
    model: String,
    /// What the pictures are to show: a class by its number or its name. May be repeated [default: any].
    #[arg(long, value_name = "CLASS", conflicts_with = "map")]
    class: Vec<String>,
    /// What the pictures are to show: a map of depth or segments, a picture.
    #[arg(long, value_name = "PICTURE")]
    map: Option<PathBuf>,
    /// List the classes that the model knows.
    #[arg(long)]
    classes: bool,
    /// A picture whose upper part stays.
    #[arg(long, value_name = "PICTURE")]
    complete: Option<PathBuf>,
    /// How much of it stays.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, requires = "complete")]
    keep: f64,
    /// Width and height in pixels, as 384x256 [default: the model's own]. Larger pictures are written through a window.
    #[arg(long, value_name = "WxH", value_parser = crate::made::size)]
    size: Option<[usize; 2]>,
    /// How many pictures of each class.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Pictures computed at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// The first picture's seed; the others' follow it [default: a new one].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Divides what codes score: less than 1 for what is usual, 0 always for the likeliest.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Draw of so many codes that are likeliest; 0 of all.
    #[arg(long, value_name = "K", default_value_t = 100)]
    top_k: usize,
    /// Draw of the likeliest codes that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Where the pictures go: a file, where there is one, or a folder.
    #[arg(long, value_name = "PATH", default_value = "sampled")]
    out: PathBuf,
    /// Write a preview beside each picture after every so many rows of codes.
    #[arg(long, value_name = "ROWS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    preview: Option<u32>,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let started = Instant::now();
    let mut vqgan = bundled::vqgan(&args.model, open(device)?, Precision::from(args.precision))?;
    if args.classes {
        ask::list(&vqgan);
        return Ok(Outcome::Done);
    }
    let first = args.seed.unwrap_or_else(fresh_seed);
    let asks = ask::all(args, &vqgan, first)?;
    let request = args.request(&vqgan)?;
    // Everything that can be refused is, before a file is made.
    for ask in &asks {
        vqgan.admit(&Request {
            conditions: vec![ask.condition.clone()],
            seeds: vec![ask.seed],
            ..request.clone()
        })?;
    }
    let names: Vec<PathBuf> = asks.iter().map(|ask| args.path(ask, asks.len())).collect::<Result<_>>()?;
    args.spare(&names)?;
    let pending = pending(&names)?;
    say!("on {}", vqgan.device().describe());
    let mut files = pending.into_iter().zip(&names);
    for (asks, names) in asks.chunks(args.batch as usize).zip(names.chunks(args.batch as usize)) {
        let begun = Instant::now();
        let request = Request {
            conditions: asks.iter().map(|ask| ask.condition.clone()).collect(),
            seeds: asks.iter().map(|ask| ask.seed).collect(),
            ..request.clone()
        };
        let mut bar = Bar::new(args.preview, names);
        let working = spinner("the first code compiles");
        let samples = vqgan.sample_blocking(&request, &mut bar.under(&working));
        working.finish_and_clear();
        let rate = bar.finish()?;
        for (sample, ask) in samples?.iter().zip(asks) {
            let (file, name) = files.next().context("there are more pictures than files")?;
            file.commit(&sample.picture.to_png()?)?;
            say!("{}: {}seed {}", name.display(), ask.named(), ask.seed);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let rate = rate.map_or(String::new(), |rate| format!(", {rate:.1} codes/s of each behind the first"));
        say!("{} in {seconds:.1} s{rate}", counted(asks.len()));
    }
    if let Some(memory) = vqgan.memory() {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (total, weights) = (mib(memory.total()), mib(memory.weights));
        say!("the transformer holds {total:.0} MiB on the device, {weights:.0} of them weights");
    }
    say!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(Outcome::Done)
}

impl Args {
    /// The request, but for what the pictures are to show and their seeds.
    fn request(&self, vqgan: &Vqgan) -> Result<Request> {
        let factor = vqgan.spatial_factor();
        let grid = match self.size {
            None => vqgan.grid(),
            Some(size) if size.iter().all(|side| side.is_multiple_of(factor)) => {
                size.map(|side| side / factor)
            }
            Some([height, width]) => bail!("{width}x{height} pixels are no multiples of {factor}"),
        };
        if !(0.0..=1.0).contains(&self.keep) {
            bail!("--keep {} is no share from 0 to 1", self.keep);
        }
        let completion = match &self.complete {
            None => None,
            Some(path) => {
                let rows = (self.keep * grid[0] as f64).round() as usize;
                Some(kiln::models::vqgan::Completion { picture: read_picture(path)?, rows })
            }
        };
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: Some(self.top_k).filter(|&k| k > 0),
            top_p: Some(self.top_p).filter(|&p| p != 1.0),
        };
        Ok(Request { grid: Some(grid), sampling, completion, ..Request::default() })
    }

    fn path(&self, ask: &Ask, count: usize) -> Result<PathBuf> {
        if self.out.extension().is_none() {
            return Ok(self.out.join(format!("{}.png", ask.file_name())));
        }
        if count > 1 {
            bail!("{} is one file, and {count} pictures are wanted: name a folder", self.out.display());
        }
        Ok(self.out.clone())
    }

    /// Refuses to write over what is read.
    fn spare(&self, names: &[PathBuf]) -> Result<()> {
        let read: Vec<PathBuf> = self.map.iter().chain(&self.complete).cloned().collect();
        names.iter().try_for_each(|name| crate::targets::spare(name, &read))
    }
}

/// A file beside a picture that shows how far it is.
fn preview(name: &Path) -> PathBuf {
    name.with_extension("preview.png")
}

/// Writes a picture whole or not at all.
fn write(name: &Path, picture: &kiln::models::image::Picture) -> Result<()> {
    let bytes = picture.to_png().with_context(|| name.display().to_string())?;
    Pending::create(name)?.commit(&bytes)
}
