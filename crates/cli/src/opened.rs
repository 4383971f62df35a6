//! A model of any family, for commands that measure models.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use kiln::engine::Precision;
use kiln::graph::{Graph, Tensor};
use kiln::models::autoencoder_kl::{self, Autoencoder};
use kiln::models::gpt::{self, Gpt};
use kiln::models::image::Picture;
use kiln::models::unet::{self, UNet};
use kiln::models::vq_model::{self, VqModel};
use kiln::models::weights::{self, SharedWeights};
use kiln::models::{Classifier, Detector, Device, ModelProfile, Runner, Taps, Vqgan, model_config};
use serde_json::Value as Json;

use crate::bundled;

/// Tokens of a prompt, as CLIP pads them.
const TOKENS: usize = 77;

/// An opened model.
pub enum Opened {
    Classifier(Box<Classifier>),
    Detector(Box<Detector>),
    OnRandom(Box<OnRandom>),
}

/// A graph on random inputs of the size that its model was trained on.
pub struct OnRandom {
    runner: Runner,
    inputs: Vec<(String, Tensor)>,
}

/// A graph, its weights, and the paths of its nodes that stay f32.
type Made = (Graph, SharedWeights, BTreeSet<String>);

/// Makes the graph of a configuration, for so many latents or images.
type Make = fn(&Json, SharedWeights, usize) -> Result<Made>;

/// Classes that are measured on random inputs.
const CLASSES: [(&str, Make); 4] = [
    ("UNet2DConditionModel", step),
    ("AutoencoderKL", decoder),
    (VQ_MODEL, reconstruction),
    (TRANSFORMER, token),
];

const VQ_MODEL: &str = "VQModel";
const TRANSFORMER: &str = "GPT2LMHeadModel";

impl Opened {
    /// Opens MODEL as what its configuration says it is. `batch` is how many latents, images or texts a UNet, an autoencoder or
    /// a GPT takes.
    pub fn open(model: &str, device: Device, precision: Precision, batch: Option<usize>) -> Result<Self> {
        let files = bundled::files(model)?;
        // What cannot be read is refused when the model is opened.
        let json = model_config(&files).map(|(_, json)| json).unwrap_or_default();
        let class = match json.get("_class_name").and_then(Json::as_str) {
            None if vq_model::Config::is_original(&json) => Some(VQ_MODEL),
            None if Vqgan::is_config(&json) || json.get("model_type").is_some_and(|kind| kind == "gpt2") => {
                Some(TRANSFORMER)
            }
            class => class,
        };
        if let Some((_, make)) = CLASSES.into_iter().find(|(name, _)| class == Some(name)) {
            let made = make(&json, weights::open(&files)?, batch.unwrap_or(1))?;
            return Ok(Self::OnRandom(Box::new(OnRandom::open(made, &device, precision)?)));
        }
        if batch.is_some() {
            bail!("{model} is no UNet, no autoencoder and no GPT, and only those are measured in batches");
        }
        Ok(if json.get("model_type").and_then(Json::as_str) == Some("detr") {
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
            Self::OnRandom(opened) => {
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
            Self::OnRandom(_) if picture.is_some() => {
                bail!("the model is measured on random input, not on pictures")
            }
            Self::OnRandom(opened) => pollster::block_on(opened.runner.profile(&named(&opened.inputs)))?,
        })
    }

    /// Paths of the nodes that run in f32 because a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        match self {
            Self::Classifier(classifier) => classifier.kept_f32(),
            Self::Detector(detector) => detector.kept_f32(),
            Self::OnRandom(opened) => opened.runner.kept_f32().clone(),
        }
    }
}

impl OnRandom {
    fn open((graph, weights, keep_f32): Made, device: &Device, precision: Precision) -> Result<Self> {
        let inputs = crate::bench::inputs(&graph)?;
        let mut quiet = |_, _| {};
        let runner = Runner::new(device, &graph, weights, precision, keep_f32, &mut quiet);
        Ok(Self { runner: pollster::block_on(runner)?, inputs })
    }
}

/// A UNet's step.
fn step(json: &Json, weights: SharedWeights, batch: usize) -> Result<Made> {
    let unet = UNet::new(unet::Config::from_json(json)?, weights.as_ref())?;
    let graph = unet.step_graph(unet::Shape { batch, size: unet.config().sample_size, tokens: TOKENS })?;
    let keep_f32 = unet.keep_f32(&graph);
    Ok((graph, weights, keep_f32))
}

/// An autoencoder's decoder.
fn decoder(json: &Json, weights: SharedWeights, batch: usize) -> Result<Made> {
    let model = Autoencoder::new(autoencoder_kl::Config::from_json(json)?, weights.as_ref())?;
    let side = (model.config().sample_size / model.spatial_factor()).max(1);
    Ok((model.decode_graph(batch, [side; 2], &Taps::none())?, weights, BTreeSet::new()))
}

/// Images encoded, as codes, and decoded.
fn reconstruction(json: &Json, weights: SharedWeights, batch: usize) -> Result<Made> {
    let weights = vq_model::diffusers_names(weights);
    let model = VqModel::new(vq_model::Config::from_json(json)?, weights.as_ref())?;
    let graph = model.graph(batch, [model.config().sample_size; 2], &Taps::none())?;
    let keep_f32 = model.keep_f32(&graph);
    Ok((graph, weights, keep_f32))
}

/// A further token of the longest texts, those before it in the cache.
fn token(json: &Json, weights: SharedWeights, batch: usize) -> Result<Made> {
    let gpt = Gpt::new(gpt::Config::from_json(json)?, weights.as_ref())?;
    let graph = gpt.step_graph(batch, gpt.config().n_positions, None)?;
    Ok((graph, weights, BTreeSet::new()))
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
