//! A pipeline's folder.

use std::sync::Arc;

use kiln_engine::Precision;
use serde_json::Value as Json;

use super::StableDiffusion;
use super::text::TextEncoder;
use crate::clip_text::{self, ClipText};
use crate::diffusion::Sampler;
use crate::schedulers::Scheduler;
use crate::textual_inversion::{TextualInversion, WithTokens};
use crate::unet::{self, UNet};
use crate::weights::{self, Files, Part, SharedWeights};
use crate::{Device, Error, LatentCodec, Tokenizer, folder};

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

impl StableDiffusion {
    /// Opens a pipeline's folder and checks that its parts fit each other. Weights are read when they are first needed.
    /// Learned words are added to the tokenizer and to the text encoder.
    pub fn open(
        files: &Arc<dyn Files>,
        device: Device,
        precision: Precision,
        words: &[TextualInversion],
    ) -> Result<Self, Error> {
        let index = folder::read_json(files, "model_index.json")?;
        let index = index.ok_or_else(|| missing(files, "model_index.json"))?;
        match index.get("_class_name").and_then(Json::as_str) {
            Some(class) if CLASSES.contains(&class) => {}
            Some(class) => {
                return Err(Error::Input(format!(
                    "{}: Kiln has no {class}",
                    files.display("model_index.json")
                )));
            }
            None => {
                return Err(Error::Input(format!("{} names no pipeline", files.display("model_index.json"))));
            }
        }
        for part in PARTS {
            let own = Part::new(files.clone(), part);
            // A folder without a file is a folder that is not there.
            if own.list().map_or(true, |names| names.is_empty()) {
                return Err(missing(files, part));
            }
        }
        let mut tokenizer = Tokenizer::from_files(&part(files, "tokenizer"))?;
        let (config, weights) = model(files, "text_encoder")?;
        let text = text(&config, weights, &mut tokenizer, words, &device, precision)?;
        let (config, weights) = model(files, "unet")?;
        let unet = UNet::new(unet::Config::from_json(&config)?, weights.as_ref())?;
        let sampler = Sampler::new(device.clone(), unet, weights, precision)?;
        let (config, weights) = model(files, "vae")?;
        let codec = LatentCodec::new(&config, weights, device, precision)?;
        let scheduler = scheduler(files)?;
        Ok(Self { tokenizer, text, sampler, codec, scheduler, low_memory: false, unfinished: None })
    }

    /// Opens the pipeline in a folder; see [`StableDiffusion::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision, &[])
    }
}

fn part(files: &Arc<dyn Files>, name: &str) -> Arc<dyn Files> {
    Arc::new(Part::new(files.clone(), name))
}

fn missing(files: &Arc<dyn Files>, name: &str) -> Error {
    let folder = files.display("");
    Error::Input(format!("{} holds no {name}, so it is no pipeline's folder", folder.trim_end_matches('/')))
}

fn model(files: &Arc<dyn Files>, name: &str) -> Result<(Json, SharedWeights), Error> {
    Ok((folder::config(&part(files, name))?, weights::open_part(files, name)?))
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
