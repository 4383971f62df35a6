//! The networks that classify.

use std::collections::BTreeSet;

use kiln_graph::Graph;
use serde_json::Value as Json;

use crate::resnet::{self, ResNet};
use crate::vit::{self, Vit};
use crate::weights::Weights;
use crate::{Error, Taps};

/// A network whose `logits` name a class.
#[derive(Clone, Debug)]
pub enum Network {
    /// A Vision Transformer.
    Vit(Vit),
    /// A residual network.
    ResNet(ResNet),
}

impl Network {
    /// The network that `config.json` names.
    pub(super) fn open(json: &Json, weights: &dyn Weights) -> Result<Self, Error> {
        match Kind::of(json)? {
            Kind::Vit => Ok(Self::Vit(Vit::new(vit::Config::from_json(json)?, weights)?)),
            Kind::ResNet => Ok(Self::ResNet(ResNet::new(resnet::Config::from_json(json)?, weights)?)),
        }
    }

    /// Refuses a `config.json` that names no classifier.
    pub(super) fn check(json: &Json) -> Result<(), Error> {
        Kind::of(json).map(|_| ())
    }

    /// Classes; 0 where there is no classifier.
    pub fn num_labels(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.config().num_labels,
            Self::ResNet(net) => net.config().num_labels,
        }
    }

    /// Image channels.
    pub fn num_channels(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.config().num_channels,
            Self::ResNet(net) => net.config().num_channels,
        }
    }

    /// Height and width of the images that it was made for, where no image processor says.
    pub fn image_size(&self) -> [usize; 2] {
        match self {
            Self::Vit(vit) => vit.config().image_size,
            Self::ResNet(_) => [224; 2],
        }
    }

    /// Layers whose attention can be rolled out; 0 where there is no attention.
    pub fn attention_layers(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.config().num_hidden_layers,
            Self::ResNet(_) => 0,
        }
    }

    /// The graph for `batch` images of this height and width, with `pixel_values` in and `logits` last.
    pub(super) fn graph(&self, batch: usize, size: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        match self {
            Self::Vit(vit) => vit.graph(batch, size, taps),
            Self::ResNet(net) => net.graph(batch, size, taps),
        }
    }

    /// Paths of the nodes that should stay f32 where the rest is stored in f16.
    pub(super) fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        match self {
            Self::Vit(vit) => vit.keep_f32(graph),
            Self::ResNet(_) => BTreeSet::new(),
        }
    }
}

enum Kind {
    Vit,
    ResNet,
}

impl Kind {
    fn of(json: &Json) -> Result<Self, Error> {
        let name = json.get("model_type").or(json.get("architecture")).and_then(Json::as_str);
        let Some(name) = name else { return Err(Error::Config("it names no model_type".into())) };
        if ["vit", "deit"].contains(&name) || name.starts_with("vit_") || name.starts_with("deit") {
            Ok(Self::Vit)
        } else if name == "resnet" || resnet::Config::is_timms(name) {
            Ok(Self::ResNet)
        } else {
            let known = "vit, deit, resnet, and timm's vit_*, deit_* and residual networks";
            Err(Error::Config(format!("model_type {name:?} is none that Kiln classifies with: {known}")))
        }
    }
}
