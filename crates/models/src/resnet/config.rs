//! Sizes and options of residual networks.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::names::Names;
use crate::Error;
use crate::config::Config as Reader;
use crate::weights::Weights;

/// What a stage repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1, the first and second narrower than the last.
    Bottleneck,
}

/// One of the stages, of which published networks have four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// How many blocks there are.
    pub blocks: usize,
    /// Channels within a block.
    pub width: usize,
    /// Groups of the 3x3 convolution of a bottleneck (ResNeXt: Xie et al. 2016, <https://arxiv.org/abs/1611.05431>).
    pub groups: usize,
    /// Channels behind a block.
    pub channels: usize,
}

/// Stages that a configuration may ask for: more would leave no pixel of any image.
const MAX_STAGES: usize = 16;

/// Sizes and options. Start from [`Config::named`] or [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Image channels.
    pub num_channels: usize,
    /// Channels behind the stem.
    pub embedding_size: usize,
    /// What stages are made of.
    pub block: Block,
    /// The stages; each but the first halves rows and columns.
    pub stages: Vec<Stage>,
    /// The activation of the stem and behind blocks; within them it is always ReLU.
    pub hidden_act: Unary,
    /// Whether the first stage halves rows and columns too.
    pub downsample_in_first_stage: bool,
    /// Whether bottlenecks halve in their first convolution, as in the paper, instead of in the 3x3 one.
    pub downsample_in_bottleneck: bool,
    /// Largest ratio of the image's rows to a stage's: stages that would go beyond are dilated instead (DC5: 16 or 8).
    pub output_stride: usize,
    /// Classes; 0 for no classifier.
    pub num_labels: usize,
}

impl Config {
    fn preset(block: Block, depths: &[usize], groups: usize, base_width: usize) -> Self {
        let mut planes = 32;
        let stages = depths.iter().map(|&blocks| {
            planes *= 2;
            match block {
                Block::Basic => Stage { blocks, width: planes, groups: 1, channels: planes },
                Block::Bottleneck => {
                    Stage { blocks, width: planes * base_width / 64 * groups, groups, channels: 4 * planes }
                }
            }
        });
        Self {
            num_channels: 3,
            embedding_size: 64,
            block,
            stages: stages.collect(),
            hidden_act: Unary::Relu,
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
            output_stride: 32,
            num_labels: 1000,
        }
    }

    /// The network of this name, as torchvision and timm name them (He et al. 2015, table 1; Zagoruyko and Komodakis
    /// 2016, <https://arxiv.org/abs/1605.07146>; Xie et al. 2016).
    pub fn named(name: &str) -> Option<Self> {
        let basic = |depths: [usize; 4]| Self::preset(Block::Basic, &depths, 1, 64);
        let deep =
            |depths: [usize; 4], groups, width| Self::preset(Block::Bottleneck, &depths, groups, width);
        Some(match name {
            "resnet10" => basic([1, 1, 1, 1]),
            "resnet14" => basic([2, 2, 1, 1]),
            "resnet18" => basic([2, 2, 2, 2]),
            "resnet26" => deep([2, 2, 2, 2], 1, 64),
            "resnet34" => basic([3, 4, 6, 3]),
            "resnet50" => deep([3, 4, 6, 3], 1, 64),
            "resnet101" => deep([3, 4, 23, 3], 1, 64),
            "resnet152" => deep([3, 8, 36, 3], 1, 64),
            "wide_resnet50_2" => deep([3, 4, 6, 3], 1, 128),
            "wide_resnet101_2" => deep([3, 4, 23, 3], 1, 128),
            "resnext50_32x4d" => deep([3, 4, 6, 3], 32, 4),
            "resnext101_32x4d" => deep([3, 4, 23, 3], 32, 4),
            "resnext101_32x8d" => deep([3, 4, 23, 3], 32, 8),
            "resnext101_32x16d" => deep([3, 4, 23, 3], 32, 16),
            "resnext101_32x32d" => deep([3, 4, 23, 3], 32, 32),
            "resnext101_64x4d" => deep([3, 4, 23, 3], 64, 4),
            _ => return None,
        })
    }

    /// Whether timm's `architecture` of this name is one that Kiln knows the form of.
    pub fn is_timms(architecture: &str) -> bool {
        Self::timms(architecture).is_some()
    }

    fn timms(architecture: &str) -> Option<Self> {
        Self::named(architecture.split('.').next()?.trim_start_matches("tv_"))
    }

    /// Reads transformers' or timm's `config.json`.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        let Some(architecture) = reader.str("architecture")? else { return Self::from_transformers(reader) };
        let mut config = Self::from_timm(architecture, reader.nested("model_args"))?;
        let pretrained = reader.nested("pretrained_cfg").size("num_classes")?;
        config.num_labels = reader.size("num_classes")?.or(pretrained).unwrap_or(config.num_labels);
        match reader.str("global_pool")? {
            None | Some("avg") => Ok(config),
            Some(other) => Err(Error::Config(format!("global_pool {other:?} is not supported"))),
        }
    }

    /// timm's model of this name, with what was asked of it.
    pub(crate) fn from_timm(architecture: &str, args: Reader) -> Result<Self, Error> {
        let unknown =
            || Error::Config(format!("{architecture} is no residual network that Kiln knows the form of"));
        let mut config = Self::timms(architecture).ok_or_else(unknown)?;
        config.output_stride = args.size("output_stride")?.unwrap_or(32);
        Ok(config)
    }

    /// transformers' `ResNetConfig`.
    pub(crate) fn from_transformers(json: Reader) -> Result<Self, Error> {
        let block = match json.str("layer_type")? {
            None | Some("bottleneck") => Block::Bottleneck,
            Some("basic") => Block::Basic,
            Some(other) => return Err(Error::Config(format!("layer_type is {other:?}"))),
        };
        let depths = json.sizes("depths")?.unwrap_or(vec![3, 4, 6, 3]);
        let channels = json.sizes("hidden_sizes")?.unwrap_or(vec![256, 512, 1024, 2048]);
        if depths.len() != channels.len() || depths.is_empty() || depths.len() > MAX_STAGES {
            let (depths, sizes) = (depths.len(), channels.len());
            let reason = format!("{depths} depths and {sizes} hidden_sizes are no 1 to {MAX_STAGES} stages");
            return Err(Error::Config(reason));
        }
        let mut config = Self::preset(block, &depths, 1, 64);
        for (stage, channels) in config.stages.iter_mut().zip(channels) {
            stage.channels = channels;
            stage.width = if block == Block::Bottleneck { channels / 4 } else { channels };
        }
        config.num_channels = json.size("num_channels")?.unwrap_or(3);
        config.embedding_size = json.size("embedding_size")?.unwrap_or(64);
        config.hidden_act = json.activation("hidden_act")?.unwrap_or(Unary::Relu);
        config.downsample_in_first_stage = json.flag("downsample_in_first_stage")?.unwrap_or(false);
        config.output_stride = usize::MAX;
        config.downsample_in_bottleneck = json.flag("downsample_in_bottleneck")?.unwrap_or(false);
        let labels = json.0.get("id2label").and_then(Json::as_object).map(serde_json::Map::len);
        config.num_labels = labels.or(json.size("num_labels")?).unwrap_or(2);
        Ok(config)
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights, names: &Names) {
        let shape = |name: String| match weights.shape(&format!("{name}.weight")) {
            Some(&[out, channels, _, _]) => Some([out, channels]),
            _ => None,
        };
        if let Some([out, channels]) = shape(names.stem().0) {
            (self.embedding_size, self.num_channels) = (out, channels);
        }
        if shape(names.conv(0, 0, 0).0).is_some() {
            let deep = shape(names.conv(0, 0, 2).0).is_some();
            self.block = if deep { Block::Bottleneck } else { Block::Basic };
        }
        let blocks =
            |i: usize| (0..4096).take_while(|&block| shape(names.conv(i, block, 0).0).is_some()).count();
        let there = (0..MAX_STAGES).take_while(|&i| blocks(i) > 0).count();
        if let (Some(&last), true) = (self.stages.last(), there > 0) {
            self.stages.resize(there, last);
        }
        for (i, stage) in self.stages.iter_mut().enumerate().take(there) {
            stage.blocks = blocks(i);
            if let (Some([width, _]), Some([_, part])) =
                (shape(names.conv(i, 0, 0).0), shape(names.conv(i, 0, 1).0))
            {
                stage.width = width;
                stage.groups = (width / part.max(1)).max(1);
            }
            let last = if self.block == Block::Bottleneck { 2 } else { 1 };
            if let Some([channels, _]) = shape(names.conv(i, 0, last).0) {
                stage.channels = channels;
            }
        }
        if self.num_labels > 0 {
            self.num_labels = match weights.shape(&format!("{}.weight", names.head())) {
                Some(&[labels, _]) => labels,
                _ => self.num_labels,
            };
        }
    }
}
