//! What a picture is to show, as the tokens before its own.

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};

use super::config::Source;
use crate::code_codec::CodeCodec;
use crate::image::{Filter, Picture, resize};
use crate::prepared::Prepared;
use crate::vq_model::{self, VqModel};
use crate::weights::{SharedWeights, within};
use crate::{Device, Error, Runner, Taps};

/// What stands before the names of the autoencoder of maps.
const MAP_PREFIX: &str = "cond_stage_model.";

/// What a picture is to show.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Whatever there is.
    None,
    /// A class's number.
    Class(usize),
    /// A map of what is where: depth, segments, or whatever the model was trained with. It is resized to the picture's size.
    Map(Picture),
}

/// What a model can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Conditions {
    /// Nothing.
    None,
    /// Classes, by their names.
    Classes(Vec<String>),
    /// Maps: pictures in colours, in greys (1 channel), or whose greys are the numbers of so many labels.
    Maps {
        /// Channels of what the autoencoder of maps takes.
        channels: usize,
    },
}

/// Makes tokens of conditions.
pub(super) struct Conditioner {
    kind: Conditions,
    start: usize,
    maps: Option<Maps>,
}

/// What turns maps into codes.
enum Maps {
    FirstStage,
    Own(Box<Own>),
}

struct Own {
    model: VqModel,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    prepared: Prepared<[usize; 2]>,
}

impl Conditioner {
    pub fn new(
        source: Source,
        weights: &SharedWeights,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Ok(match source {
            Source::Start(start) => Self { kind: Conditions::None, start, maps: None },
            Source::Classes(names) => Self { kind: Conditions::Classes(names), start: 0, maps: None },
            Source::FirstStage => {
                Self { kind: Conditions::Maps { channels: 3 }, start: 0, maps: Some(Maps::FirstStage) }
            }
            Source::Map(config) => {
                let weights = vq_model::diffusers_names(within(weights, MAP_PREFIX));
                let model = VqModel::new(vq_model::Config::from_json(&config)?, weights.as_ref())?;
                let channels = model.config().in_channels;
                let own =
                    Own { model, weights, device: device.clone(), precision, prepared: Prepared::new() };
                let maps = Some(Maps::Own(Box::new(own)));
                Self { kind: Conditions::Maps { channels }, start: 0, maps }
            }
        })
    }

    pub fn kind(&self) -> &Conditions {
        &self.kind
    }

    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        if let Some(Maps::Own(own)) = &mut self.maps {
            own.prepared.clear();
            own.device = device;
        }
        Ok(())
    }

    /// Refuses conditions whose tokens are none of the vocabulary.
    pub fn check(&self, vocab: usize) -> Result<(), Error> {
        let (what, count) = match (&self.kind, &self.maps) {
            (Conditions::None, _) => ("start tokens", self.start + 1),
            (Conditions::Classes(names), _) => ("classes", names.len()),
            (_, Some(Maps::Own(own))) => ("codes of maps", own.model.config().num_vq_embeddings),
            _ => return Ok(()),
        };
        if count > vocab {
            return Err(Error::Config(format!(
                "{count} {what} are more than the vocabulary's {vocab} tokens"
            )));
        }
        Ok(())
    }

    /// Tokens before those of so many codes.
    pub fn tokens(&self, codes: usize) -> usize {
        if self.maps.is_some() { codes } else { 1 }
    }

    /// Refuses a condition that the model cannot be asked for.
    pub fn admit(&self, condition: &Condition) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Input(reason));
        match (&self.kind, condition) {
            (Conditions::None, Condition::None) | (Conditions::Maps { .. }, Condition::Map(_)) => Ok(()),
            (Conditions::Classes(names), Condition::Class(class)) if *class < names.len() => Ok(()),
            (Conditions::Classes(names), Condition::Class(class)) => wrong(format!(
                "class {class} is none of the model's {}, 0 to {}",
                names.len(),
                names.len() - 1
            )),
            (Conditions::Classes(names), _) => {
                wrong(format!("the model wants one of {} classes", names.len()))
            }
            (Conditions::Maps { .. }, _) => wrong("the model wants a map of what is where".into()),
            (Conditions::None, Condition::Class(_)) => wrong("the model knows no classes".into()),
            (Conditions::None, Condition::Map(_)) => wrong("the model takes no maps".into()),
        }
    }

    /// The tokens of a condition: one, or a grid of a map's codes, row by row. `grid` is the picture's height and width in
    /// codes.
    pub async fn encode(
        &mut self,
        condition: &Condition,
        grid: [usize; 2],
        codec: &mut CodeCodec,
    ) -> Result<Vec<u32>, Error> {
        match (condition, &mut self.maps) {
            (Condition::Class(class), _) => Ok(vec![*class as u32]),
            (Condition::Map(map), Some(Maps::FirstStage)) => {
                let size = grid.map(|side| side * codec.model().spatial_factor());
                Ok(codec.encode(&resize(map, size[1], size[0], Filter::Lanczos)).await?.codes().to_vec())
            }
            (Condition::Map(map), Some(Maps::Own(own))) => own.encode(map, grid).await,
            _ => Ok(vec![self.start as u32]),
        }
    }
}

impl Own {
    async fn encode(&mut self, map: &Picture, grid: [usize; 2]) -> Result<Vec<u32>, Error> {
        let size = grid.map(|side| side * self.model.spatial_factor());
        let image = channels(map, size, self.model.config().in_channels)?;
        let (model, device, precision) = (&self.model, &self.device, self.precision);
        let weights = self.weights.clone();
        let make = async {
            let graph = model.encode_graph(1, size, &Taps::none())?;
            let graph = kiln_graph::passes::select_outputs(graph, &["codes"])?;
            let keep_f32 = model.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.keeping(1, size, |other| *other == size, make).await?;
        let codes = runner.run(&[("image", image)]).await?;
        Ok(codes.iter().flat_map(Tensor::to_f64).map(|code| code as u32).collect())
    }
}

/// A map `[1, height, width, channels]` as its autoencoder takes it: colours or greys in -1..1, or for more channels a 1 in
/// that of the label whose number the pixel's grey is.
fn channels(map: &Picture, [height, width]: [usize; 2], channels: usize) -> Result<Tensor, Error> {
    let filter = if channels > 3 { Filter::Nearest } else { Filter::Lanczos };
    let map = resize(map, width, height, filter);
    let unit = |value: u8| f32::from(value) / 127.5 - 1.0;
    let values: Vec<f32> = match channels {
        3 => map.rgb.iter().map(|&value| unit(value)).collect(),
        1 => map.rgb.chunks_exact(3).map(|pixel| unit(pixel[0])).collect(),
        _ => {
            let mut values = vec![0.0; width * height * channels];
            for (pixel, row) in map.rgb.chunks_exact(3).zip(values.chunks_exact_mut(channels.max(1))) {
                let label = usize::from(pixel[0]);
                *row.get_mut(label).ok_or_else(|| {
                    Error::Input(format!("label {label} of the map is none of the model's {channels}"))
                })? = 1.0;
            }
            values
        }
    };
    Ok(Tensor::f32([1, height, width, channels], values).map_err(GraphError::from)?)
}
