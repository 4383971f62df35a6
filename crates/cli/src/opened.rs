//! A model of any family, for commands that measure models.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, bail};
use kiln::engine::Precision;
use kiln::graph::{Graph, Tensor};
use kiln::models::autoencoder_kl::{self, Autoencoder};
use kiln::models::image::Picture;
use kiln::models::unet::{Config, Shape, UNet};
use kiln::models::weights::{self, Files, SharedWeights};
use kiln::models::{Classifier, Detector, Device, ModelProfile, Runner, Taps};
use serde_json::Value as Json;

use crate::bundled;

/// Largest configuration file that is looked into.
const MAX_CONFIG: u64 = 64 << 20;

/// Tokens of a prompt, as CLIP pads them.
const TOKENS: usize = 77;

/// An opened model.
pub enum Opened {
    Classifier(Box<Classifier>),
    Detector(Box<Detector>),
    OnLatents(Box<OnLatents>),
}

/// A UNet's step, or an autoencoder's decoder, on random latents of the size that it was trained on.
pub struct OnLatents {
    runner: Runner,
    inputs: Vec<(String, Tensor)>,
}

impl Opened {
    /// Opens MODEL as what its `config.json` says it is. `batch` is how many latents a UNet or a decoder takes.
    pub fn open(model: &str, device: Device, precision: Precision, batch: Option<usize>) -> Result<Self> {
        let files = bundled::files(model)?;
        // What cannot be read is refused when the model is opened.
        let config = files.read("config.json", MAX_CONFIG).ok().flatten();
        let json = config.and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok()).unwrap_or_default();
        let says = |key: &str, value: &str| json.get(key).and_then(Json::as_str) == Some(value);
        let many = batch.unwrap_or(1);
        let on_latents = if says("_class_name", "UNet2DConditionModel") {
            Some(OnLatents::step(&files, &json, &device, precision, many)?)
        } else if says("_class_name", "AutoencoderKL") {
            Some(OnLatents::decoder(&files, &json, &device, precision, many)?)
        } else {
            None
        };
        if let Some(opened) = on_latents {
            return Ok(Self::OnLatents(Box::new(opened)));
        }
        if batch.is_some() {
            bail!("{model} is no UNet and no autoencoder, and only those are measured in batches");
        }
        Ok(if says("model_type", "detr") {
            Self::Detector(Box::new(bundled::detector(model, device, precision)?))
        } else {
            Self::Classifier(Box::new(bundled::classifier(model, device, precision)?))
        })
    }

    /// Computes with the usual input and reads the answer.
    pub fn run(&mut self) -> Result<()> {
        match self {
            Self::Classifier(classifier) => {
                let picture = grey(classifier.model().image_size())?;
                drop(classifier.classify_blocking(&[picture])?);
            }
            Self::Detector(detector) => drop(detector.detect_blocking(&[grey(DETECTED)?])?),
            Self::OnLatents(opened) => {
                let inputs = named(&opened.inputs);
                drop(pollster::block_on(opened.runner.run(&inputs))?);
            }
        }
        Ok(())
    }

    /// Times each node of a run, on a picture or on the usual input; `None` on the CPU reference.
    pub fn profile(&mut self, picture: Option<&Picture>) -> Result<Option<ModelProfile>> {
        let or_grey = |size: [usize; 2]| picture.cloned().map_or_else(|| grey(size), Ok);
        Ok(match self {
            Self::Classifier(classifier) => {
                let picture = or_grey(classifier.model().image_size())?;
                classifier.profile_blocking(&picture)?
            }
            Self::Detector(detector) => detector.profile_blocking(&or_grey(DETECTED)?)?,
            Self::OnLatents(_) if picture.is_some() => bail!("the model looks at latents, not at pictures"),
            Self::OnLatents(opened) => pollster::block_on(opened.runner.profile(&named(&opened.inputs)))?,
        })
    }

    /// Paths of the nodes that run in f32 because a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        match self {
            Self::Classifier(classifier) => classifier.kept_f32(),
            Self::Detector(detector) => detector.kept_f32(),
            Self::OnLatents(opened) => opened.runner.kept_f32().clone(),
        }
    }
}

impl OnLatents {
    fn step(
        files: &Arc<dyn Files>,
        json: &Json,
        device: &Device,
        precision: Precision,
        batch: usize,
    ) -> Result<Self> {
        let weights = weights::open(files)?;
        let unet = UNet::new(Config::from_json(json)?, weights.as_ref())?;
        let graph = unet.step_graph(Shape { batch, size: unet.config().sample_size, tokens: TOKENS })?;
        let keep_f32 = unet.keep_f32(&graph);
        Self::open(&graph, weights, device, precision, keep_f32)
    }

    fn decoder(
        files: &Arc<dyn Files>,
        json: &Json,
        device: &Device,
        precision: Precision,
        batch: usize,
    ) -> Result<Self> {
        let weights = weights::open(files)?;
        let model = Autoencoder::new(autoencoder_kl::Config::from_json(json)?, weights.as_ref())?;
        let side = (model.config().sample_size / model.spatial_factor()).max(1);
        let graph = model.decode_graph(batch, [side; 2], &Taps::none())?;
        Self::open(&graph, weights, device, precision, BTreeSet::new())
    }

    fn open(
        graph: &Graph,
        weights: SharedWeights,
        device: &Device,
        precision: Precision,
        keep_f32: BTreeSet<String>,
    ) -> Result<Self> {
        let inputs = crate::bench::inputs(graph)?;
        let mut quiet = |_, _| {};
        let runner = Runner::new(device, graph, weights, precision, keep_f32, &mut quiet);
        Ok(Self { runner: pollster::block_on(runner)?, inputs })
    }
}

/// Height and width of the picture that a detector is measured on.
const DETECTED: [usize; 2] = [480, 640];

/// A grey picture.
fn grey([height, width]: [usize; 2]) -> Result<Picture> {
    Ok(Picture::new(width, height, vec![128; width * height * 3])?)
}

fn named(inputs: &[(String, Tensor)]) -> Vec<(&str, Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect()
}
