//! Object detection: pictures in, boxes out.
//!
//! ```no_run
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_models::image::Picture;
//! use kiln_models::{Detector, Device};
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut detector = Detector::from_folder("detr-resnet-50", Device::Gpu(gpu), Precision::F32)?;
//! let found = detector.detect_blocking(&[Picture::decode(&std::fs::read("street.jpg")?)?])?;
//! for object in found[0].iter().filter(|object| object.score > 0.9) {
//!     println!("{} at {:?}", detector.label(object.label), object.corners);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod groups;
mod segments;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor, passes};
use serde_json::{Value as Json, json};

use crate::detr::{Config, Detr, Images, Padding};
use crate::image::{HeatMap, ImageProcessor, Picture, batch};
use crate::prepared::Prepared;
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, Taps, folder};

pub use segments::{Masks, Segment, SegmentOptions, Segmentation};

/// A detector with its labels, its image processor and a device to run on. Compiles a session when it first meets an
/// input size, and keeps it.
pub struct Detector {
    detr: Detr,
    weights: SharedWeights,
    processor: ImageProcessor,
    labels: Vec<String>,
    device: Device,
    precision: Precision,
    max_batch: usize,
    prepared: Prepared<Key>,
}

/// What a graph is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    images: Images,
    wanted: Wanted,
}

/// What a graph is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Boxes,
    /// Boxes, and where the last layer of the decoder looked.
    Attention,
    Masks,
}

impl Wanted {
    /// The graph's outputs, `look` being the name of the last layer's attention.
    fn outputs(self, look: &str) -> Vec<&str> {
        match self {
            Self::Boxes => vec!["scores", "labels", "boxes"],
            Self::Attention => vec!["scores", "labels", "boxes", look],
            Self::Masks => vec!["logits", "pred_masks"],
        }
    }
}

/// An object that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Its class.
    pub label: usize,
    /// The class's probability.
    pub score: f32,
    /// Left, top, right and bottom in pixels of the picture. A model may place them outside of it.
    pub corners: [f32; 4],
}

impl Detector {
    /// Opens a model: `config.json`, `preprocessor_config.json` where there is one, and the weights.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        folder::check_precision(&device, precision)?;
        let json = folder::config(files)?;
        match json.get("model_type").and_then(Json::as_str) {
            Some("detr") => {}
            Some(kind) => {
                return Err(Error::Config(format!(
                    "model_type {kind:?} is none that Kiln detects with: detr"
                )));
            }
            None => return Err(Error::Config("it names no model_type".into())),
        }
        let config = Config::from_json(&json)?;
        let weights = weights::open(files)?;
        let detr = Detr::new(config, weights.as_ref())?;
        let channels = detr.config().backbone.num_channels;
        if channels != 3 {
            return Err(Error::Config(format!("the model wants {channels} channels, and pictures have 3")));
        }
        let given = folder::read_json(files, "preprocessor_config.json")?;
        let processor = ImageProcessor::from_config(&with_defaults(given), (800, 800))
            .map_err(|error| Error::Input(error.to_string()))?;
        let labels = folder::labels(&json, detr.config().num_labels);
        Ok(Self {
            detr,
            weights,
            processor,
            labels,
            device,
            precision,
            max_batch: 8,
            prepared: Prepared::new(),
        })
    }

    /// Opens the model in a folder; see [`Detector::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }

    /// The model.
    pub fn model(&self) -> &Detr {
        &self.detr
    }

    /// What is done to pictures.
    pub fn processor(&self) -> &ImageProcessor {
        &self.processor
    }

    /// The name of a class.
    pub fn label(&self, class: usize) -> &str {
        self.labels.get(class).map_or("?", String::as_str)
    }

    /// A name for each class.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many pictures are computed at once; 8 unless it is set.
    pub fn set_max_batch(&mut self, batch: usize) {
        self.max_batch = batch.max(1);
    }

    /// What every query found in every picture, likeliest first; most are nothing, with a low score. Pictures of similar
    /// sizes are padded together, which does not change what is found in them.
    pub async fn detect(&mut self, pictures: &[Picture]) -> Result<Vec<Vec<Detection>>, Error> {
        let pixels = self.pixels(pictures);
        let mut found = vec![Vec::new(); pictures.len()];
        for group in groups::similar(&sizes(&pixels), self.max_batch) {
            let outputs = self.compute(&members(&pixels, &group), Wanted::Boxes).await?;
            for (slot, &i) in group.iter().enumerate() {
                found[i] = detections(&outputs, slot, &pictures[i])?;
                found[i].sort_by(|a, b| b.score.total_cmp(&a.score));
            }
        }
        Ok(found)
    }

    /// [`Detector::detect`], with the places that each query looked at: the weights of the decoder's last look at the
    /// picture, the mean over its heads.
    pub async fn detect_with_attention(
        &mut self,
        pictures: &[Picture],
    ) -> Result<Vec<Vec<(Detection, HeatMap)>>, Error> {
        let pixels = self.pixels(pictures);
        let mut found = vec![Vec::new(); pictures.len()];
        for group in groups::equal(&sizes(&pixels), self.max_batch) {
            let outputs = self.compute(&members(&pixels, &group), Wanted::Attention).await?;
            for (slot, &i) in group.iter().enumerate() {
                let maps = self.looks(&outputs, slot, &pixels[i])?;
                found[i] = detections(&outputs, slot, &pictures[i])?.into_iter().zip(maps).collect();
                found[i].sort_by(|a, b| b.0.score.total_cmp(&a.0.score));
            }
        }
        Ok(found)
    }

    /// Cuts pictures into the objects in them, and what else the model knows, pixel by pixel. [`Error::Config`] where the
    /// model is no `DetrForSegmentation`.
    pub async fn segment(
        &mut self,
        pictures: &[Picture],
        options: &SegmentOptions,
    ) -> Result<Vec<Segmentation>, Error> {
        if !self.detr.config().masks {
            return Err(Error::Config("the model has no head for masks".into()));
        }
        let pixels = self.pixels(pictures);
        let mut found: Vec<Option<Segmentation>> = pictures.iter().map(|_| None).collect();
        let classes = self.detr.config().num_labels;
        // The head's group norms would see padding.
        for group in groups::equal(&sizes(&pixels), self.max_batch) {
            let outputs = self.compute(&members(&pixels, &group), Wanted::Masks).await?;
            let [logits, masks] = &outputs[..] else { return Err(incomplete()) };
            let &[batch, _, rows, columns] = masks.shape() else { return Err(incomplete()) };
            let (logits, masks) = (logits.to_f32(), masks.to_f32());
            if logits.iter().any(|v| !v.is_finite()) {
                return Err(Error::Input(NO_NUMBER.into()));
            }
            let each = |values: &[f32]| values.len() / batch.max(1);
            for (slot, &i) in group.iter().enumerate() {
                let own = |values: &'_ [f32]| slot * each(values)..(slot + 1) * each(values);
                let said = Masks {
                    logits: &logits[own(&logits)],
                    classes,
                    masks: &masks[own(&masks)],
                    size: [rows, columns],
                };
                found[i] = Some(said.segments(pictures[i].width, pictures[i].height, options));
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn pixels(&self, pictures: &[Picture]) -> Vec<Tensor> {
        pictures.iter().map(|picture| self.processor.pixel_values(picture)).collect()
    }

    /// The name of the attention of the decoder's last layer, without `mid.`.
    fn last_look(&self) -> String {
        format!("cross_attention{}", self.detr.config().decoder_layers.saturating_sub(1))
    }

    /// Where each query of a picture of a batch looked, from the last output `[batch, heads, queries, places]`.
    fn looks(&self, outputs: &[Tensor], slot: usize, pixels: &Tensor) -> Result<Vec<HeatMap>, Error> {
        let weights = outputs.last().ok_or_else(incomplete)?;
        let &[_, heads, queries, places] = weights.shape() else { return Err(incomplete()) };
        let [height, width] = batch::size(pixels);
        // Both sides are halved alike, however often.
        let sides = |shift: usize| [height, width].map(|side| side.div_ceil(1 << shift));
        let grid = (0..usize::BITS as usize).map(sides).find(|[rows, columns]| rows * columns == places);
        let [rows, columns] = grid.ok_or_else(incomplete)?;
        let weights = weights.to_f32();
        let own = weights.chunks_exact((heads * queries * places).max(1)).nth(slot).ok_or_else(incomplete)?;
        let map = |query: usize| {
            let mut values = vec![0.0; places];
            for head in own.chunks_exact((queries * places).max(1)) {
                let row = head.chunks_exact(places.max(1)).nth(query).unwrap_or_default();
                values.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v) / heads as f64);
            }
            HeatMap { rows, columns, values }
        };
        Ok((0..queries).map(map).collect())
    }

    /// A runner for such a batch, what it was compiled for, and its inputs.
    async fn prepare(
        &mut self,
        pixels: &[&Tensor],
        wanted: Wanted,
    ) -> Result<(&mut Runner, Vec<(&'static str, Tensor)>), Error> {
        let size = groups::largest(pixels.iter().map(|pixels| batch::size(pixels)));
        let equal = pixels.iter().all(|pixels| batch::size(pixels) == size);
        let padding = if equal { Padding::None } else { Padding::Everywhere };
        let key = Key { images: Images { batch: pixels.len(), size, padding }, wanted };
        let fits = |other: &Key| {
            let larger = Images { batch: other.images.batch, ..key.images };
            other.images.batch >= key.images.batch && *other == Key { images: larger, ..key }
        };
        let look = self.last_look();
        let (detr, device, precision) = (&self.detr, &self.device, self.precision);
        let weights = self.weights.clone();
        let make = async {
            let taps = if wanted == Wanted::Attention { Taps::of([&look]) } else { Taps::none() };
            let graph = detr.graph(key.images, &taps)?;
            let graph = passes::select_outputs(graph, &wanted.outputs(&format!("mid.{look}")))?;
            let keep_f32 = detr.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        let (Key { images, .. }, runner) = self.prepared.get(key, fits, make).await?;
        let values = batch::batch(pixels, images.batch, images.size).map_err(GraphError::from)?;
        let mut inputs = vec![("pixel_values", values)];
        if images.padding != Padding::None {
            let mask = batch::mask(pixels, images.batch, images.size).map_err(GraphError::from)?;
            inputs.push(("pixel_mask", mask));
        }
        Ok((runner, inputs))
    }

    async fn compute(&mut self, pixels: &[&Tensor], wanted: Wanted) -> Result<Vec<Tensor>, Error> {
        let (runner, inputs) = self.prepare(pixels, wanted).await?;
        runner.run(&inputs).await
    }

    /// Compiles for one picture and times each node of a run; `None` on the CPU reference.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile_blocking(&mut self, picture: &Picture) -> Result<Option<crate::ModelProfile>, Error> {
        pollster::block_on(async {
            let pixels = self.processor.pixel_values(picture);
            let (runner, inputs) = self.prepare(&[&pixels], Wanted::Boxes).await?;
            runner.profile(&inputs).await
        })
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    /// [`Detector::detect`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn detect_blocking(&mut self, pictures: &[Picture]) -> Result<Vec<Vec<Detection>>, Error> {
        pollster::block_on(self.detect(pictures))
    }

    /// [`Detector::detect_with_attention`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn detect_with_attention_blocking(
        &mut self,
        pictures: &[Picture],
    ) -> Result<Vec<Vec<(Detection, HeatMap)>>, Error> {
        pollster::block_on(self.detect_with_attention(pictures))
    }

    /// [`Detector::segment`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn segment_blocking(
        &mut self,
        pictures: &[Picture],
        options: &SegmentOptions,
    ) -> Result<Vec<Segmentation>, Error> {
        pollster::block_on(self.segment(pictures, options))
    }
}

const NO_NUMBER: &str = "the model's answer is not a number";

fn incomplete() -> Error {
    Error::Input("the model's answer is incomplete".into())
}

/// Height and width of processed pictures.
fn sizes(pixels: &[Tensor]) -> Vec<[usize; 2]> {
    pixels.iter().map(batch::size).collect()
}

fn members<'a>(pixels: &'a [Tensor], group: &[usize]) -> Vec<&'a Tensor> {
    group.iter().map(|&i| &pixels[i]).collect()
}

/// What the queries found in a picture of a batch, from the outputs `scores`, `labels` and `boxes`.
fn detections(outputs: &[Tensor], slot: usize, picture: &Picture) -> Result<Vec<Detection>, Error> {
    let [scores, labels, boxes, ..] = outputs else { return Err(incomplete()) };
    let queries = scores.shape().last().copied().unwrap_or(0);
    let (scores, labels, boxes) = (scores.to_f32(), labels.to_f64(), boxes.to_f32());
    let (width, height) = (picture.width as f32, picture.height as f32);
    let own = slot * queries..(slot + 1) * queries;
    let rows =
        scores.get(own.clone()).into_iter().flatten().zip(labels.get(own.clone()).into_iter().flatten());
    let corners = boxes.get(4 * own.start..4 * own.end).unwrap_or_default().chunks_exact(4);
    let found: Vec<Detection> = rows
        .zip(corners)
        .map(|((&score, &label), at)| {
            let corners = [at[0] * width, at[1] * height, at[2] * width, at[3] * height];
            Detection { label: label as usize, score, corners }
        })
        .collect();
    if found.iter().any(|d| !d.score.is_finite() || d.corners.iter().any(|v| !v.is_finite())) {
        return Err(Error::Input(NO_NUMBER.into()));
    }
    Ok(found)
}

/// `preprocessor_config.json` with what `DetrImageProcessor` does where it is silent.
fn with_defaults(given: Option<Json>) -> Json {
    let mut config = json!({
        "image_processor_type": "DetrImageProcessor",
        "size": { "shortest_edge": 800, "longest_edge": 1333 },
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    });
    if let (Some(Json::Object(given)), Some(config)) = (given, config.as_object_mut()) {
        // A bare size once came with a longest edge of its own.
        if given.get("size").is_some_and(Json::is_number) && !given.contains_key("max_size") {
            config.insert("max_size".into(), 1333.into());
        }
        config.extend(given);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;

    #[test]
    fn what_the_processor_does_not_say_is_transformers_default() {
        let read = |given| ImageProcessor::from_config(&with_defaults(given), (800, 800)).unwrap();
        assert_eq!(read(None).resize.unwrap().target(640, 480), (1066, 800));
        assert_eq!(read(Some(json!({ "size": 400 }))).resize.unwrap().target(4000, 333), (1333, 111));
        let own = json!({ "size": { "height": 128, "width": 128 }, "image_mean": [0, 0, 0] });
        assert_eq!(read(Some(own.clone())).resize.unwrap().target(640, 480), (128, 128));
        assert_eq!(read(Some(own)).normalize, Some(([0.0; 3], [0.229, 0.224, 0.225])));
    }

    #[test]
    fn folders_that_are_no_detector_are_refused_in_plain_words() {
        let error = |config: &str| {
            let mut memory = Memory::new();
            memory.insert("config.json", config.as_bytes());
            let files: Arc<dyn Files> = Arc::new(memory);
            Detector::open(&files, Device::Cpu, Precision::F32)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        assert!(error("{}").contains("names no model_type"));
        assert!(error(r#"{"model_type": "vit"}"#).contains("\"vit\""));
        assert!(error(r#"{"model_type": "detr"}"#).contains("model.safetensors"));
    }
}
