//! `kiln reconstruct`, `encode` and `decode`: pictures as codes.

mod report;
mod sheet;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use kiln::engine::Precision;
use kiln::models::code_codec::CodeMap;
use kiln::models::image::Picture;
use kiln::models::{CodeCodec, Error, Tiling};

use crate::Outcome;
use crate::bundled::{self, named_files, open_file, picture_files, read_picture};
use crate::classify::open;
use crate::device::{DeviceArgs, PrecisionKind};
use crate::output::{Pending, bar, say};
use crate::profile::kept_line;
use crate::targets::{spare, targets};
use report::{Measured, Report};
use sheet::Sheet;

/// What MODEL may be.
const MODEL_HELP: &str = "The folder of an autoencoder with a codebook (VQGAN), or of a model that begins with one; hub:owner/name; or glyphs, which is bundled";

/// Options of all three.
#[derive(clap::Args)]
struct Options {
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
    /// Work in tiles of so many codes along a side, a multiple of 8, whose seams are blended.
    #[arg(long, value_name = "CODES", value_parser = tile, conflicts_with = "memory")]
    tile: Option<usize>,
    /// Work in such tiles where a whole picture takes more than so many MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
}

fn tile(text: &str) -> Result<usize, String> {
    let side = text.parse().ok().filter(|side: &usize| *side > 0 && side.is_multiple_of(8));
    side.ok_or_else(|| "a multiple of 8 is wanted".into())
}

impl Options {
    fn open(&self, model: &str, device: &DeviceArgs) -> Result<CodeCodec> {
        let mut codec = bundled::code_codec(model, open(device)?, Precision::from(self.precision))?;
        codec.set_tiling(match (self.tile, self.memory) {
            (Some(side), _) => Tiling::Latents(side),
            (None, Some(mebibytes)) => Tiling::Within(u64::from(mebibytes) << 20),
            (None, None) => Tiling::Never,
        });
        Ok(codec)
    }
}

/// Show what is left of pictures that are turned into codes and back.
#[derive(clap::Args)]
pub struct ReconstructArgs {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// Pictures: files, folders, patterns.
    #[arg(required = true)]
    pictures: Vec<String>,
    /// Where the pictures go that come back.
    #[arg(long, value_name = "FOLDER", default_value = "reconstructed")]
    out: PathBuf,
    /// Write a picture of originals, each beside what comes back of it.
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Write what is measured as JSON.
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Compress pictures into codes.
#[derive(clap::Args)]
pub struct EncodeArgs {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// Pictures: files, folders, patterns.
    #[arg(required = true)]
    pictures: Vec<String>,
    /// Where the .codes files go.
    #[arg(long, value_name = "FOLDER", default_value = "codes")]
    out: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Make pictures of codes.
#[derive(clap::Args)]
pub struct DecodeArgs {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// .codes files, folders of them, patterns.
    #[arg(required = true)]
    codes: Vec<String>,
    /// Where the pictures go.
    #[arg(long, value_name = "FOLDER", default_value = "decoded")]
    out: PathBuf,
    #[command(flatten)]
    options: Options,
}

pub fn reconstruct(args: &ReconstructArgs, device: &DeviceArgs) -> Result<Outcome> {
    let files = picture_files(&args.pictures)?;
    let extra = [&args.sheet, &args.json].map(Option::as_deref);
    extra.into_iter().flatten().try_for_each(|path| spare(path, &files))?;
    let [sheet, json] = extra.map(|path| path.map(Pending::create).transpose());
    let (sheet, json) = (sheet?, json?);
    let mut codec = args.options.open(&args.model, device)?;
    let targets = targets(&args.out, &files, ".png")?;
    let (mut report, mut shown) = (Report::default(), Sheet::default());
    let outcome = each(&files, &targets, |path, target| {
        let picture = read_picture(path)?;
        let bytes = codes_of(&mut codec, path, &picture)?.to_bytes();
        // What comes back comes from the bytes.
        let map = CodeMap::from_bytes(&bytes).map_err(|error| of_file(path, error.into()))?;
        let again = codec.decode_blocking(&map).map_err(|error| of_file(path, error))?;
        write(target, &again.to_png()?)?;
        let measured = Measured::new(path, &picture, &again, &map, bytes.len())?;
        if sheet.is_some() {
            shown.add(path, &picture, &again, &measured);
        }
        let lines = measured.lines();
        report.measured.push(measured);
        Ok(lines)
    })?;
    report.summary().into_iter().for_each(|line| say!("{line}"));
    say_kept(&args.options, &codec);
    if let Some(json) = json {
        json.commit(&report.json(&args.model, &codec, args.options.precision)?)?;
    }
    if let (Some(sheet), false) = (sheet, report.measured.is_empty()) {
        sheet.commit(&shown.picture().to_png()?)?;
    }
    Ok(outcome)
}

pub fn encode(args: &EncodeArgs, device: &DeviceArgs) -> Result<Outcome> {
    let files = picture_files(&args.pictures)?;
    let mut codec = args.options.open(&args.model, device)?;
    let targets = targets(&args.out, &files, ".codes")?;
    let outcome = each(&files, &targets, |path, target| {
        let map = codes_of(&mut codec, path, &read_picture(path)?)?;
        let bytes = map.to_bytes();
        write(target, &bytes)?;
        let [height, width] = map.picture_size();
        Ok(vec![format!(
            "{}: {width}x{height} pixels, {}x{} codes, {} bytes",
            target.display(),
            map.width(),
            map.height(),
            bytes.len()
        )])
    })?;
    say_kept(&args.options, &codec);
    Ok(outcome)
}

pub fn decode(args: &DecodeArgs, device: &DeviceArgs) -> Result<Outcome> {
    let files = named_files(&args.codes, &["codes"], ".codes file")?;
    let mut codec = args.options.open(&args.model, device)?;
    let targets = targets(&args.out, &files, ".png")?;
    let outcome = each(&files, &targets, |path, target| {
        let map = read_codes(path)?;
        let picture = codec.decode_blocking(&map).map_err(|error| of_file(path, error))?;
        write(target, &picture.to_png()?)?;
        Ok(vec![format!("{}: {}x{} pixels", target.display(), picture.width, picture.height)])
    })?;
    say_kept(&args.options, &codec);
    Ok(outcome)
}

/// Makes of each file what goes to its target, and prints the lines that tell of it. One that is refused is told, and the
/// others are done.
fn each(
    files: &[PathBuf],
    targets: &[PathBuf],
    mut make: impl FnMut(&Path, &Path) -> Result<Vec<String>>,
) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    let progress = bar(files.len(), "files");
    for (path, target) in files.iter().zip(targets) {
        match make(path, target) {
            Ok(lines) => progress.suspend(|| lines.iter().for_each(|line| say!("{line}"))),
            // Nothing about the file: the next would fail as well.
            Err(error) if error.is::<Error>() => return Err(error),
            Err(error) => {
                outcome = Outcome::BadInput;
                progress.suspend(|| eprintln!("error: {}", crate::sentence(&error)));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(outcome)
}

fn codes_of(codec: &mut CodeCodec, path: &Path, picture: &Picture) -> Result<CodeMap> {
    codec.encode_blocking(picture).map_err(|error| of_file(path, error))
}

/// An error by the name of the file that it is about; others stay as they are.
fn of_file(path: &Path, error: Error) -> anyhow::Error {
    match error {
        Error::Codes(error) => anyhow!("{} {error}", path.display()),
        Error::Input(reason) => anyhow!("{}: {reason}", path.display()),
        other => other.into(),
    }
}

fn read_codes(path: &Path) -> Result<CodeMap> {
    let mut bytes = Vec::new();
    open_file(path)?.read_to_end(&mut bytes).with_context(|| format!("{} cannot be read", path.display()))?;
    CodeMap::from_bytes(&bytes).map_err(|error| of_file(path, error.into()))
}

fn write(target: &Path, bytes: &[u8]) -> Result<()> {
    Pending::create(target)?.commit(bytes)
}

fn say_kept(options: &Options, codec: &CodeCodec) {
    if options.precision == PrecisionKind::F16 {
        say!("{}", kept_line(&codec.kept_f32()));
    }
}
