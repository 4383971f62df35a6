//! Models that are part of the binary, and where others are found.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use kiln::engine::Precision;
use kiln::models::coco::Dataset;
use kiln::models::image::Picture;
use kiln::models::stable_diffusion::{Additions, StableDiffusion};
use kiln::models::weights::hub::{self, Hub};
use kiln::models::weights::{Files, Folder, Memory};
use kiln::models::{Classifier, CodeCodec, Detector, Device, Vqgan};

macro_rules! embedded {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/", $folder, "/", $name)).as_slice(),
        )),*]
    };
}

/// A tiny ViT that reads handwritten digits.
const DIGITS: &[(&str, &[u8])] =
    embedded!("digits-vit": "config.json", "preprocessor_config.json", "model.safetensors");

/// Ten digits that it was not trained on: a picture of each, named by its true label.
pub const DIGIT_SAMPLES: &[(&str, &[u8])] = embedded!(
    "digits-vit/samples":
    "digit-1620-zero.png",
    "digit-1621-one.png",
    "digit-1618-two.png",
    "digit-1624-three.png",
    "digit-1628-four.png",
    "digit-1617-five.png",
    "digit-1623-six.png",
    "digit-1622-seven.png",
    "digit-1619-eight.png",
    "digit-1633-nine.png",
);

/// A small DETR that finds handwritten digits in coloured scenes.
const SCENES: &[(&str, &[u8])] =
    embedded!("scenes-detr": "config.json", "preprocessor_config.json", "model.safetensors");

/// Eight scenes of digits that it was not trained on.
const SCENE_SAMPLES: &[(&str, &[u8])] = embedded!(
    "scenes-detr/samples":
    "scene-0000.png",
    "scene-0001.png",
    "scene-0002.png",
    "scene-0003.png",
    "scene-0004.png",
    "scene-0005.png",
    "scene-0006.png",
    "scene-0007.png",
);

/// What is in them, as COCO annotations.
const SCENE_ANNOTATIONS: &[(&str, &[u8])] = embedded!("scenes-detr/samples": "annotations.json");

/// A tiny latent diffusion model that makes such scenes of captions.
const CAPTIONS: &[(&str, &[u8])] = embedded!(
    "scenes-ldm":
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
);

/// A small VQGAN of two stages that compresses and writes coloured digits.
const GLYPHS: &[(&str, &[u8])] = embedded!("digits-vqgan": "config.json", "model.safetensors");

/// Five pictures that it was not trained on.
const GLYPH_SAMPLES: &[(&str, &[u8])] = embedded!(
    "digits-vqgan/heldout":
    "000-purple-5.png",
    "001-blue-9.png",
    "004-green-4.png",
    "030-white-7.png",
    "041-red-1.png",
);

/// Bundled models by name.
const MODELS: &[(&str, &[(&str, &[u8])])] =
    &[("digits", DIGITS), ("scenes", SCENES), ("captions", CAPTIONS), ("glyphs", GLYPHS)];

/// What MODEL may be, for the help of every command.
pub const MODEL_HELP: &str = "A folder in the hub's layout, hub:owner/name, or a bundled model: digits (classifies), scenes (detects), captions and glyphs (make pictures)";

/// The files of MODEL, and what errors call them.
pub fn files(model: &str) -> Result<Arc<dyn Files>> {
    if let Some(name) = model.strip_prefix(hub::PREFIX) {
        return Ok(Arc::new(Folder::new(Hub::from_env()?.fetch(name)?)));
    }
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(Arc::new(Folder::new(path)));
    }
    if path.exists() {
        bail!("{model} is a file, and a model is a folder that holds config.json and model.safetensors");
    }
    if let Some((_, embedded)) = MODELS.iter().find(|(name, _)| *name == model) {
        let mut memory = Memory::of(model);
        for &(name, bytes) in *embedded {
            memory.insert(name, bytes);
        }
        return Ok(Arc::new(memory));
    }
    let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
    bail!("{model} is no folder, no hub:owner/name, and no bundled model (there is {})", names.join(", "))
}

/// A classifier of MODEL.
pub fn classifier(model: &str, device: Device, precision: Precision) -> Result<Classifier> {
    named(model, Classifier::open(&files(model)?, device, precision))
}

/// A detector of MODEL.
pub fn detector(model: &str, device: Device, precision: Precision) -> Result<Detector> {
    named(model, Detector::open(&files(model)?, device, precision))
}

/// An autoencoder with a codebook of MODEL.
pub fn code_codec(model: &str, device: Device, precision: Precision) -> Result<CodeCodec> {
    named(model, CodeCodec::open(&files(model)?, device, precision))
}

/// A VQGAN of two stages of MODEL.
pub fn vqgan(model: &str, device: Device, precision: Precision) -> Result<Vqgan> {
    named(model, Vqgan::open(&files(model)?, device, precision))
}

/// A pipeline of MODEL.
pub fn pipeline(model: &str, device: Device, precision: Precision) -> Result<StableDiffusion> {
    Ok(StableDiffusion::open(&files(model)?, device, precision, &Additions::default())?)
}

/// Names the folder in errors of the configuration's content, which alone do not name their file.
pub fn named<T>(model: &str, result: Result<T, kiln::models::Error>) -> Result<T> {
    result.map_err(|error| match error {
        kiln::models::Error::Config(_) => anyhow!("{}/{error}", model.trim_end_matches('/')),
        other => other.into(),
    })
}

/// The digit samples with their true labels.
pub fn digit_samples() -> Result<Vec<(&'static str, &'static str, Picture)>> {
    let decode = |&(name, bytes): &(&'static str, &[u8])| {
        let label = name.trim_end_matches(".png").rsplit('-').next().unwrap_or_default();
        Ok((name, label, Picture::decode(bytes)?))
    };
    DIGIT_SAMPLES.iter().map(decode).collect()
}

/// The samples of glyphs with their names.
pub fn glyph_samples() -> Result<Vec<(&'static str, Picture)>> {
    GLYPH_SAMPLES.iter().map(|&(name, bytes)| Ok((name, Picture::decode(bytes)?))).collect()
}

/// The scene samples with their names, and what is in them.
pub fn scene_samples() -> Result<(Vec<(&'static str, Picture)>, Dataset)> {
    let scenes = SCENE_SAMPLES.iter().map(|&(name, bytes)| Ok((name, Picture::decode(bytes)?)));
    let annotations = SCENE_ANNOTATIONS.first().map_or(&[][..], |(_, bytes)| bytes);
    Ok((scenes.collect::<Result<_>>()?, Dataset::from_json(annotations)?))
}

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 30;

/// Opens a file to read; errors name it.
pub fn open_file(path: &Path) -> Result<File> {
    let named = |error: String| anyhow!("{} {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| named(format!("cannot be read: {error}")))?;
    // A pipe would be waited for without end.
    if !metadata.is_file() {
        return Err(named("is no file".into()));
    }
    if metadata.len() > MAX_FILE {
        return Err(named(format!("has {} bytes, and at most {MAX_FILE} are read", metadata.len())));
    }
    File::open(path).map_err(|error| named(format!("cannot be read: {error}")))
}

/// Reads a picture file; errors name it.
pub fn read_picture(path: &Path) -> Result<Picture> {
    let file = open_file(path)?;
    Picture::read(std::io::BufReader::new(file)).map_err(|error| anyhow!("{} {error}", path.display()))
}

/// Endings of pictures, by which a folder's pictures are told from its other files.
const ENDINGS: [&str; 13] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "pnm", "ppm", "pgm", "pbm", "jfif"];

/// The picture files that arguments name: files, folders of pictures, and patterns, in this order.
pub fn picture_files(arguments: &[String]) -> Result<Vec<PathBuf>> {
    named_files(arguments, &ENDINGS, "picture")
}

/// The same of files of another kind, told from others by their `endings`.
pub fn named_files(arguments: &[String], endings: &[&str], kind: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        let before = files.len();
        if path.is_dir() {
            let mut inner = Vec::new();
            for entry in std::fs::read_dir(path).map_err(|error| anyhow!("{argument}: {error}"))? {
                let file = entry?.path();
                let ending = file.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
                if endings.contains(&ending.as_str()) {
                    inner.push(file);
                }
            }
            inner.sort();
            files.extend(inner);
            if files.len() == before {
                bail!("{argument} holds no {kind}s");
            }
        } else if !path.exists() && argument.contains(['*', '?', '[']) {
            let found = glob::glob(argument)
                .map_err(|error| anyhow!("{argument} is no pattern: {error}"))?
                .filter_map(Result::ok)
                .filter(|file| !file.is_dir());
            files.extend(found);
            if files.len() == before {
                bail!("no {kind} matches {argument}");
            }
        } else {
            // One that is not there is refused by name when it is read.
            files.push(path.to_path_buf());
        }
    }
    Ok(files)
}
