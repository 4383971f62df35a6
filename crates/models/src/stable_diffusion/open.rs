//! A pipeline's folder, or a checkpoint in one file.

use std::sync::Arc;

use kiln_engine::Precision;
use serde_json::Value as Json;

use super::text::TextEncoder;
use super::{Additions, StableDiffusion};
use crate::clip_text::{self, ClipText, token_table};
use crate::diffusion::Sampler;
use crate::folder::{self, Model, holds, model, part};
use crate::lora::Merged;
use crate::schedulers::Scheduler;
use crate::single_file::SingleFile;
use crate::textual_inversion::{TextualInversion, WithTokens};
use crate::tokenizer::clip;
use crate::unet::{self, UNet};
use crate::weights::{Files, SharedWeights, Weights};
use crate::{Device, Error, LatentCodec, Tokenizer};

/// Classes of diffusers whose folders hold the same parts.
const CLASSES: [&str; 5] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipelineLegacy",
    "LatentConsistencyModelPipeline",
];

/// Parts that have to be there.
const PARTS: [&str; 5] = ["tokenizer", "text_encoder", "unet", "vae", "scheduler"];

/// What a pipeline is made of.
struct Pieces {
    tokenizer: Tokenizer,
    text: Model,
    unet: Model,
    vae: Model,
    scheduler: Json,
}

impl StableDiffusion {
    /// Opens a pipeline's folder and checks that its parts fit each other and what is added to them. Weights are read when
    /// they are first needed.
    pub fn open(
        files: &Arc<dyn Files>,
        device: Device,
        precision: Precision,
        additions: &Additions,
    ) -> Result<Self, Error> {
        folder::check_pipeline(files, &CLASSES, &PARTS)?;
        let tokenizer = match &additions.tokenizer {
            Some(given) => Tokenizer::from_files(&tokenizer_folder(given))?,
            None => Tokenizer::from_files(&part(files, "tokenizer"))?,
        };
        let pieces = Pieces {
            tokenizer,
            text: model(files, "text_encoder")?,
            unet: model(files, "unet")?,
            vae: model(files, "vae")?,
            scheduler: scheduler(files)?,
        };
        Self::assemble(pieces, device, precision, additions)
    }

    /// Opens a checkpoint in one `.safetensors` file, as Stable Diffusion 1.x and 2.x were first published, like
    /// [`StableDiffusion::open`]. The tokenizer is that of the additions, or lies beside the file or in a folder
    /// `tokenizer` there, and is CLIP's own where there is none and the text encoder knows as many tokens.
    pub fn open_file(
        files: &Arc<dyn Files>,
        name: &str,
        device: Device,
        precision: Precision,
        additions: &Additions,
    ) -> Result<Self, Error> {
        let single = SingleFile::open(files, name)?;
        let text = single.text();
        let tokenizer = single_tokenizer(files, &single, text.1.as_ref(), additions)?;
        let given = additions.config.as_ref();
        // A configuration counts for more than a guess.
        let config = |name: &str, guess: Model| -> Result<Model, Error> {
            match given.filter(|given| holds(given, name)) {
                Some(given) => Ok((folder::config(&part(given, name))?, guess.1)),
                None => Ok(guess),
            }
        };
        let pieces = Pieces {
            tokenizer,
            text: config("text_encoder", text)?,
            unet: config("unet", single.unet())?,
            vae: config("vae", single.vae())?,
            scheduler: match given.filter(|given| holds(given, "scheduler")) {
                Some(given) => scheduler(given)?,
                None => single.scheduler(),
            },
        };
        Self::assemble(pieces, device, precision, additions).map_err(|error| match error {
            // There is no such file.
            Error::Config(reason) => {
                Error::Input(format!("{}: its weights make no model: {reason}", single.display()))
            }
            other => other,
        })
    }

    fn assemble(
        pieces: Pieces,
        device: Device,
        precision: Precision,
        additions: &Additions,
    ) -> Result<Self, Error> {
        let Pieces { mut tokenizer, text: (text_config, text_weights), unet, vae, mut scheduler } = pieces;
        let (unet_config, mut unet_weights) = unet;
        let mut text_weights = text_weights;
        if !additions.loras.is_empty() {
            unet_weights = Arc::new(Merged::unet(unet_weights, &additions.loras)?);
            text_weights = Arc::new(Merged::text(text_weights, &additions.loras)?);
        }
        let text = text(&text_config, text_weights, &mut tokenizer, &additions.words, &device, precision)?;
        let unet = UNet::new(unet::Config::from_json(&unet_config)?, unet_weights.as_ref())?;
        let sampler = Sampler::new(device.clone(), unet, unet_weights, precision)?;
        let codec = LatentCodec::new(&vae.0, vae.1, device, precision)?;
        if let (Some(prediction), Some(settings)) = (&additions.prediction, scheduler.as_object_mut()) {
            settings.insert("prediction_type".into(), prediction.as_str().into());
            Scheduler::from_json(&scheduler).map_err(|error| Error::Input(error.to_string()))?;
        }
        Ok(Self { tokenizer, text, sampler, codec, scheduler, low_memory: false, unfinished: None })
    }

    /// Opens the pipeline in a folder; see [`StableDiffusion::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision, &Additions::default())
    }

    /// Opens a checkpoint in one file; see [`StableDiffusion::open_file`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(
        path: impl AsRef<std::path::Path>,
        device: Device,
        precision: Precision,
        additions: &Additions,
    ) -> Result<Self, Error> {
        let (files, name) = folder::split(path.as_ref())?;
        Self::open_file(&files, &name, device, precision, additions)
    }
}

/// The folder of a tokenizer, where a folder is given that holds it or its files.
fn tokenizer_folder(files: &Arc<dyn Files>) -> Arc<dyn Files> {
    if has_vocabulary(files) || !holds(files, "tokenizer") { files.clone() } else { part(files, "tokenizer") }
}

/// The tokenizer of a checkpoint in one file: the one that is given, the one beside it, or CLIP's.
fn single_tokenizer(
    files: &Arc<dyn Files>,
    single: &SingleFile,
    text: &dyn Weights,
    additions: &Additions,
) -> Result<Tokenizer, Error> {
    if let Some(given) = &additions.tokenizer {
        return Ok(Tokenizer::filling_with(&tokenizer_folder(given), single.pad())?);
    }
    if let Some(given) = additions.config.as_ref().filter(|given| holds(given, "tokenizer")) {
        return Ok(Tokenizer::from_files(&part(given, "tokenizer"))?);
    }
    let beside = tokenizer_folder(files);
    if has_vocabulary(&beside) {
        return Ok(Tokenizer::filling_with(&beside, single.pad())?);
    }
    // A training may have left rows of the words that it learned; without the words they would be lost unnoticed.
    let words: usize = additions.words.iter().filter_map(|word| word.vectors().shape().first()).sum();
    let known = text.shape(&token_table(text)).and_then(|shape| shape.first());
    match known {
        Some(&rows) if !(clip::TOKENS..=clip::TOKENS + words).contains(&rows) => Err(Error::Input(format!(
            "{} has no tokenizer, and its text encoder knows {rows} tokens instead of the {} of CLIP's: its own has to be \
             named or to lie beside the file",
            single.display(),
            clip::TOKENS
        ))),
        _ => Ok(Tokenizer::clip(single.pad().unwrap_or(clip::END))?),
    }
}

fn has_vocabulary(files: &Arc<dyn Files>) -> bool {
    ["tokenizer.json", "vocab.json"].iter().any(|name| matches!(files.size(name), Ok(Some(_))))
}

fn text(
    config: &Json,
    weights: SharedWeights,
    tokenizer: &mut Tokenizer,
    words: &[TextualInversion],
    device: &Device,
    precision: Precision,
) -> Result<TextEncoder, Error> {
    let weights: SharedWeights = match words {
        [] => weights,
        words => {
            let mut more = WithTokens::new(weights)?;
            for word in words {
                word.add_to(tokenizer, &mut more)?;
            }
            Arc::new(more)
        }
    };
    let clip = ClipText::new(clip_text::Config::from_json(config)?, weights.as_ref())?;
    Ok(TextEncoder::new(clip, weights, device.clone(), precision))
}

/// The scheduler's configuration, which has to be one that is supported.
fn scheduler(files: &Arc<dyn Files>) -> Result<Json, Error> {
    const FILE: &str = "scheduler_config.json";
    let own = part(files, "scheduler");
    let wrong = |reason: String| Error::Input(format!("{}: {reason}", own.display(FILE)));
    let bytes = own.read(FILE, 1 << 20).map_err(|error| wrong(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| wrong("there is no such file".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text".into()))?;
    let config = Scheduler::config_of(&text).map_err(|error| wrong(error.to_string()))?;
    Scheduler::from_json(&config).map_err(|error| wrong(error.to_string()))?;
    Ok(config)
}
