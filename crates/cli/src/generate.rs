//! `kiln text2image`, `img2img` and `inpaint`: pictures by Stable Diffusion.

mod options;
mod parameters;
mod png;
mod recover;
mod samplers;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use kiln::engine::Precision;
use kiln::models::stable_diffusion::{Request, StableDiffusion, Start};
use kiln::models::{LatentCodec, Tiling};

use crate::Outcome;
use crate::bundled::{self, read_picture};
use crate::classify::open;
use crate::device::DeviceArgs;
use crate::made::{SEED_MASK, counted, fresh_seed, pending};
use crate::output::say;
use options::Options;
use watch::Watching;

/// What MODEL may be.
const MODEL_HELP: &str = "A pipeline's folder, hub:owner/name, a .safetensors checkpoint of Stable Diffusion 1.x or 2.x, or captions, which is bundled";

/// Make pictures from a prompt.
#[derive(clap::Args)]
pub struct TextArgs {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// What the pictures are to show.
    prompt: String,
    #[command(flatten)]
    options: Options,
}

/// Make pictures from a prompt and a picture.
#[derive(clap::Args)]
pub struct PictureArgs {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// The picture to begin with.
    picture: PathBuf,
    /// What the pictures are to show.
    prompt: String,
    /// How much of the picture may change, from 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 0.8)]
    strength: f64,
    #[command(flatten)]
    options: Options,
}

/// Change a part of a picture.
#[derive(clap::Args)]
pub struct MaskArgs {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// The picture.
    picture: PathBuf,
    /// What of it is to change, in white; the rest, in black, stays.
    mask: PathBuf,
    /// What that part is to show.
    prompt: String,
    /// How much of that part may change, from 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    strength: f64,
    #[command(flatten)]
    options: Options,
}

pub fn text2image(args: &TextArgs, device: &DeviceArgs) -> Result<Outcome> {
    generate("text2image", &args.model, &args.prompt, None, &args.options, device)
}

pub fn img2img(args: &PictureArgs, device: &DeviceArgs) -> Result<Outcome> {
    let start = Start { picture: read_picture(&args.picture)?, strength: args.strength, mask: None };
    generate("img2img", &args.model, &args.prompt, Some(start), &args.options, device)
}

pub fn inpaint(args: &MaskArgs, device: &DeviceArgs) -> Result<Outcome> {
    let mask = Some(read_picture(&args.mask)?);
    let start = Start { picture: read_picture(&args.picture)?, strength: args.strength, mask };
    generate("inpaint", &args.model, &args.prompt, Some(start), &args.options, device)
}

fn generate(
    command: &str,
    model: &str,
    prompt: &str,
    start: Option<Start>,
    options: &Options,
    device: &DeviceArgs,
) -> Result<Outcome> {
    let started = Instant::now();
    let additions = options.additions()?;
    let precision = Precision::from(options.precision);
    let path = Path::new(model);
    let mut pipeline = if path.is_file() {
        let (files, name) = options::split(path)?;
        StableDiffusion::open_file(&files, &name, open(device)?, precision, &additions)?
    } else {
        let files = bundled::files(model)?;
        StableDiffusion::open(&files, open(device)?, precision, &additions)?
    };
    pipeline.set_low_memory(options.low_memory);
    if let Some(mebibytes) = options.decode_memory {
        pipeline.set_tiling(Tiling::Within(u64::from(mebibytes) << 20));
    }
    let request = options.request(prompt, start, &pipeline)?;
    let first = options.seed.unwrap_or_else(fresh_seed);
    let seeds: Vec<u64> = (0..u64::from(options.count)).map(|i| first.wrapping_add(i) & SEED_MASK).collect();
    pipeline.check(&request)?;
    for warning in pipeline.warnings(&request)? {
        eprintln!("note: {warning}");
    }
    let codec = options.preview.map(|_| options.preview_codec(&pipeline)).transpose()?;
    let names: Vec<PathBuf> = seeds.iter().map(|seed| options.path(command, *seed)).collect();
    let pending = pending(&names)?;
    say!("on {}", pipeline.device().describe());
    let mut pending = pending.into_iter();
    for seeds in seeds.chunks(options.batch as usize) {
        let begun = Instant::now();
        let request = Request { seeds: seeds.to_vec(), ..request.clone() };
        let previews = options.preview.zip(codec.as_ref().map(LatentCodec::another));
        let mut watching = Watching::new(previews, &names_of(options, command, seeds));
        let pictures = recover::generate(&mut pipeline, &request, &mut watching, device);
        let rate = watching.finish()?;
        for (picture, &seed) in pictures?.iter().zip(seeds) {
            let text = parameters::text(&request, seed, model, &options.lora_names(), &pipeline);
            let bytes = png::with_text(picture, &text)?;
            let file = pending.next().context("there are more pictures than files")?;
            file.commit(&bytes)?;
            say!("{}: seed {seed}", options.path(command, seed).display());
        }
        say!("{} in {:.1} s{rate}", counted(seeds.len()), begun.elapsed().as_secs_f64());
    }
    if let Some(memory) = pipeline.memory() {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        say!(
            "a step holds {:.0} MiB on the device, {:.0} of them weights",
            mib(memory.total()),
            mib(memory.weights)
        );
    }
    say!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(Outcome::Done)
}

fn names_of(options: &Options, command: &str, seeds: &[u64]) -> Vec<PathBuf> {
    seeds.iter().map(|&seed| options.path(command, seed)).collect()
}
