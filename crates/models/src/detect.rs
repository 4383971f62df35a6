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

use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};
use serde_json::{Value as Json, json};

use crate::detr::{Config, Detr, Images, Padding};
use crate::image::{ImageProcessor, Picture, batch};
use crate::prepared::Prepared;
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, Taps, folder};

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
    prepared: Prepared<Images>,
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
        let pixels: Vec<Tensor> = pictures.iter().map(|p| self.processor.pixel_values(p)).collect();
        let sizes: Vec<[usize; 2]> = pixels.iter().map(batch::size).collect();
        let mut found = vec![Vec::new(); pictures.len()];
        for group in groups(&sizes, self.max_batch) {
            let members: Vec<&Tensor> = group.iter().map(|&i| &pixels[i]).collect();
            let [scores, labels, boxes] = self.compute(&members).await?;
            let queries = self.detr.config().num_queries;
            for (slot, &i) in group.iter().enumerate() {
                let (width, height) = (pictures[i].width as f32, pictures[i].height as f32);
                let own = slot * queries..(slot + 1) * queries;
                let rows = scores.get(own.clone()).into_iter().flatten();
                let rows = rows.zip(labels.get(own.clone()).into_iter().flatten());
                let corners = boxes.get(4 * own.start..4 * own.end).unwrap_or_default().chunks_exact(4);
                found[i] = rows
                    .zip(corners)
                    .map(|((&score, &label), corners)| Detection {
                        label: label as usize,
                        score,
                        corners: [
                            corners[0] * width,
                            corners[1] * height,
                            corners[2] * width,
                            corners[3] * height,
                        ],
                    })
                    .collect();
                if found[i].iter().any(|d| !d.score.is_finite() || d.corners.iter().any(|v| !v.is_finite())) {
                    return Err(Error::Input("the model's answer is not a number".into()));
                }
                found[i].sort_by(|a, b| b.score.total_cmp(&a.score));
            }
        }
        Ok(found)
    }

    /// `scores`, `labels` and `boxes` of some pictures, query by query.
    async fn compute(&mut self, pixels: &[&Tensor]) -> Result<[Vec<f32>; 3], Error> {
        let size = largest(pixels.iter().map(|pixels| batch::size(pixels)));
        let equal = pixels.iter().all(|pixels| batch::size(pixels) == size);
        let padding = if equal { Padding::None } else { Padding::Everywhere };
        let wanted = Images { batch: pixels.len(), size, padding };
        let fits = |other: &Images| {
            other.batch >= wanted.batch && other.size == wanted.size && other.padding == wanted.padding
        };
        let (detr, device, precision) = (&self.detr, &self.device, self.precision);
        let weights = self.weights.clone();
        let make = async {
            let graph = detr.graph(wanted, &Taps::none())?;
            let keep_f32 = detr.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        let (images, runner) = self.prepared.get(wanted, fits, make).await?;
        let values = batch::batch(pixels, images.batch, images.size).map_err(GraphError::from)?;
        let mut inputs = vec![("pixel_values", values)];
        if images.padding != Padding::None {
            let mask = batch::mask(pixels, images.batch, images.size).map_err(GraphError::from)?;
            inputs.push(("pixel_mask", mask));
        }
        let outputs = runner.run(&inputs).await?;
        // The answer comes last.
        let mut answer =
            outputs.iter().rev().map(|tensor| tensor.cast(kiln_graph::DType::F32).to_f32().into_owned());
        let mut next = || answer.next().unwrap_or_default();
        let (boxes, labels, scores) = (next(), next(), next());
        Ok([scores, labels, boxes])
    }

    /// [`Detector::detect`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn detect_blocking(&mut self, pictures: &[Picture]) -> Result<Vec<Vec<Detection>>, Error> {
        pollster::block_on(self.detect(pictures))
    }
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

/// The smallest size that holds all of these.
fn largest(sizes: impl Iterator<Item = [usize; 2]>) -> [usize; 2] {
    sizes.fold([0; 2], |[h, w], [height, width]| [h.max(height), w.max(width)])
}

/// Pictures by number in groups of at most `most`, in which padding makes up less than a fifth.
fn groups(sizes: &[[usize; 2]], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (sizes[i], i));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let area = |[h, w]: [usize; 2]| h * w;
    for i in order {
        let joins = groups.last().is_some_and(|group| {
            let members = || group.iter().chain([&i]).map(|&i| sizes[i]);
            let used: usize = members().map(area).sum();
            group.len() < most && 4 * area(largest(members())) * (group.len() + 1) < 5 * used.max(1)
        });
        match groups.last_mut() {
            Some(group) if joins => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;

    #[test]
    fn pictures_of_similar_sizes_share_a_batch() {
        let sizes = [[800, 1066], [1066, 800], [800, 1066], [800, 1000], [800, 1066], [7, 1333]];
        assert_eq!(groups(&sizes, 8), [vec![5], vec![3, 0, 2, 4], vec![1]]);
        assert_eq!(groups(&sizes, 2), [vec![5], vec![3, 0], vec![2, 4], vec![1]]);
        assert!(groups(&[], 8).is_empty());
    }

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
