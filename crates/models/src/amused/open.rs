//! A pipeline's folder.

use std::sync::Arc;

use kiln_engine::Precision;

use super::codes::{CodeDecoder, CodeEncoder};
use super::scheduler::AmusedScheduler;
use super::step::Stepper;
use super::text::TextEncoder;
use super::{Amused, CONDS};
use crate::clip_text::{self, ClipText};
use crate::folder::{self, model, part};
use crate::uvit2d::{self, UVit2d};
use crate::vq_model::{self, VqModel};
use crate::weights::Files;
use crate::{Device, Error, Tokenizer};

/// Classes of diffusers whose folders hold the same parts.
const CLASSES: [&str; 3] = ["AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline"];

/// Parts that have to be there.
const PARTS: [&str; 5] = ["tokenizer", "text_encoder", "transformer", "vqvae", "scheduler"];

impl Amused {
    /// Opens a pipeline's folder and checks that its parts fit each other. Weights are read when they are first needed.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        folder::check_precision(&device, precision)?;
        folder::check_pipeline(files, &CLASSES, &PARTS)?;
        let tokenizer = Tokenizer::from_files(&part(files, "tokenizer"))?;
        let scheduler = scheduler(files)?;
        let (config, text_weights) = model(files, "text_encoder")?;
        let clip = ClipText::new(clip_text::Config::from_json(&config)?, text_weights.as_ref())?;
        let (config, transformer_weights) = model(files, "transformer")?;
        let transformer = UVit2d::new(uvit2d::Config::from_json(&config)?, transformer_weights.as_ref())?;
        let (config, codes_weights) = model(files, "vqvae")?;
        let codes = VqModel::new(vq_model::Config::from_json(&config)?, codes_weights.as_ref())?;
        check(&clip, &transformer, &codes, &scheduler)?;
        Ok(Self {
            tokenizer,
            text: TextEncoder::new(clip, text_weights, device.clone(), precision)?,
            stepper: Stepper::new(transformer, transformer_weights, device.clone(), precision),
            decoder: CodeDecoder::new(codes.clone(), codes_weights.clone(), device.clone(), precision),
            encoder: CodeEncoder::new(codes, codes_weights, device, precision),
            scheduler,
        })
    }

    /// Opens the pipeline in a folder; see [`Amused::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }
}

fn scheduler(files: &Arc<dyn Files>) -> Result<AmusedScheduler, Error> {
    const FILE: &str = "scheduler_config.json";
    let own = part(files, "scheduler");
    let missing = || Error::Input(format!("{}: there is no such file", own.display(FILE)));
    AmusedScheduler::from_json(&folder::read_json(&own, FILE)?.ok_or_else(missing)?)
}

/// Refuses parts that do not fit each other.
fn check(
    clip: &ClipText,
    transformer: &UVit2d,
    codes: &VqModel,
    scheduler: &AmusedScheduler,
) -> Result<(), Error> {
    let (clip, transformer, codes) = (clip.config(), transformer.config(), codes.config());
    for (what, gives, wants) in [
        ("a prompt's tokens have widths of", clip.hidden_size, transformer.encoder_hidden_size),
        ("prompts have widths of", clip.projection_dim, transformer.cond_embed_dim),
        ("pictures are described by numbers,", CONDS, transformer.micro_conds()),
        ("codebooks have sizes of", codes.num_vq_embeddings, transformer.codebook_size),
        ("pictures have channels,", codes.out_channels, 3),
        ("pictures have channels,", codes.in_channels, 3),
    ] {
        if gives != wants {
            return Err(Error::Input(format!("parts do not fit: {what} {gives} and {wants}")));
        }
    }
    let mask = usize::try_from(scheduler.mask_token_id).unwrap_or(usize::MAX);
    if !(transformer.codebook_size..transformer.vocab_size).contains(&mask) {
        return Err(Error::Input(format!(
            "mask_token_id is {mask}, which is a code, or none of the {} ids that the transformer knows",
            transformer.vocab_size
        )));
    }
    Ok(())
}
