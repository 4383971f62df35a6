//! VQGAN's two stages: "Taming Transformers for High-Resolution Image Synthesis" (Esser et al. 2021,
//! <https://arxiv.org/abs/2012.09841>). A transformer writes the codes of a picture, one after another, and an autoencoder
//! with a codebook makes the picture of them.
//!
//! ```no_run
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_models::vqgan::{Condition, Request};
//! use kiln_models::{Device, Vqgan};
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut vqgan = Vqgan::from_folder("cin_transformer", Device::Gpu(gpu), Precision::F32)?;
//! let request = Request { conditions: vec![Condition::Class(207)], seeds: vec![1, 2], ..Default::default() };
//! for sample in vqgan.sample_blocking(&request, &mut ())? {
//!     std::fs::write("retriever.png", sample.picture.to_png()?)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reads the paper's own checkpoints of two stages: their configuration, a `Net2NetTransformer`, and the weights of both
//! stages in one file, `transformer.` and `first_stage_model.` before their names. What a picture is to show is nothing, a
//! class, or a map such as depth or segments, which another autoencoder turns into codes (`cond_stage_model.`).
//!
//! A picture of the size that the model was trained on takes a step with a cache for each code. In a larger one the
//! transformer sees a window of that size, around each code as far as the picture reaches, as the paper has it: all of the
//! window is computed for each.

mod condition;
mod config;
mod request;
mod sample;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use kiln_engine::{MemoryReport, Precision};
use serde_json::Value as Json;

use crate::code_codec::CodeCodec;
use crate::gpt::{Decoder, Gpt, Window};
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, folder};

pub use condition::{Condition, Conditions};
pub use request::{Completion, Progress, Request, Sample, Watch};

use condition::Conditioner;
use config::Config;

/// What trainers put before all names.
const TRAINERS: &str = "state_dict.";

/// Both stages on a device.
pub struct Vqgan {
    gpt: Gpt,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    codec: CodeCodec,
    conditioner: Conditioner,
    /// What was compiled last, for how many pictures and which part of their successors.
    decoder: Option<(Compiled, Decoder)>,
    window: Option<(Compiled, Window)>,
}

/// What a transformer is compiled for: pictures, tokens of each, and how many of the successors are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compiled {
    batch: usize,
    tokens: usize,
    top_k: Option<usize>,
}

impl Vqgan {
    /// The model that `config`, a `Net2NetTransformer`'s, and `weights` describe.
    pub fn new(
        config: &Json,
        weights: SharedWeights,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        folder::check_precision(&device, precision)?;
        let config = Config::from_json(config)?;
        let trained = weights.names().iter().any(|name| name.starts_with(TRAINERS));
        let weights = if trained { weights::within(&weights, TRAINERS) } else { weights };
        let gpt = Gpt::new(config.transformer, weights.as_ref())?;
        let codec = CodeCodec::new(&config.first_stage, weights.clone(), device.clone(), precision)?;
        let conditioner = Conditioner::new(config.condition, &weights, &device, precision)?;
        let vqgan = Self { gpt, weights, device, precision, codec, conditioner, decoder: None, window: None };
        vqgan.check()?;
        Ok(vqgan)
    }

    /// Opens a model: its weights, and `config.json` or the YAML file of the paper's code.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        let (name, config) = folder::model_config(files)?;
        let opened = Self::new(&config, weights::open(files)?, device, precision);
        opened.map_err(|error| folder::naming(error, files, &name))
    }

    /// Opens the model in a folder; see [`Vqgan::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }

    /// Whether a configuration is that of a model of two stages.
    pub fn is_config(json: &Json) -> bool {
        Config::is(json)
    }

    /// Refuses stages that do not fit each other.
    fn check(&self) -> Result<(), Error> {
        let codes = self.codec.codebook().size as usize;
        let vocab = self.gpt.config().vocab_size;
        if codes > vocab {
            return Err(Error::Config(format!(
                "the codebook has {codes} codes, and the transformer's vocabulary {vocab} tokens"
            )));
        }
        self.conditioner.check(vocab)?;
        let [height, width] = self.grid();
        let (needed, longest) =
            (self.conditioner.tokens(height * width) + height * width - 1, self.gpt.config().n_positions);
        if needed > longest {
            return Err(Error::Config(format!(
                "a picture takes {needed} tokens, and the transformer {longest} of them"
            )));
        }
        Ok(())
    }

    /// What a picture can be asked to show.
    pub fn conditions(&self) -> &Conditions {
        self.conditioner.kind()
    }

    /// Height and width, in codes, of the pictures that the model was trained on.
    pub fn grid(&self) -> [usize; 2] {
        let model = self.codec.model();
        [(model.config().sample_size / model.spatial_factor()).max(1); 2]
    }

    /// Pixels, along each side, of what becomes one code.
    pub fn spatial_factor(&self) -> usize {
        self.codec.model().spatial_factor()
    }

    /// The first stage, which turns pictures into codes and back.
    pub fn codec(&mut self) -> &mut CodeCodec {
        &mut self.codec
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        folder::check_precision(&device, self.precision)?;
        (self.decoder, self.window) = (None, None);
        self.codec.set_device(device.clone())?;
        self.conditioner.set_device(device.clone())?;
        self.device = device;
        Ok(())
    }

    /// Bytes that the transformer holds on the device; `None` before it has run, and on the CPU reference.
    pub fn memory(&self) -> Option<MemoryReport> {
        let stepping = self.decoder.as_ref().map(|(_, decoder)| decoder.runner());
        let runner = stepping.or_else(|| self.window.as_ref().map(|(_, window)| window.runner()))?;
        Some(runner.session()?.memory())
    }

    /// [`Vqgan::sample`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn sample_blocking(
        &mut self,
        request: &Request,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Sample>, Error> {
        pollster::block_on(self.sample(request, watch))
    }
}
