//! Image classification: pictures in, labels out.
//!
//! ```no_run
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_models::image::Picture;
//! use kiln_models::{Classifier, Device};
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut classifier = Classifier::from_folder("vit-base-patch16-224", Device::Gpu(gpu), Precision::F32)?;
//! let answer = classifier.classify_blocking(&[Picture::decode(&std::fs::read("cat.jpg")?)?])?;
//! println!("{:?}", answer[0].top(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod rollout;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::{CompileTimes, MemoryReport, Precision, Profile};
use kiln_graph::Tensor;
use serde_json::Value as Json;

use crate::image::{ImageProcessor, Picture};
use crate::vit::{Config, Vit};
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, Taps};

pub use rollout::attention_rollout;

/// Largest configuration file.
const MAX_JSON: u64 = 64 << 20;

/// A classifier with its labels, its image processor and a device to run on. Compiles a session when it first meets an
/// input size, and keeps it.
pub struct Classifier {
    vit: Vit,
    weights: SharedWeights,
    processor: ImageProcessor,
    labels: Vec<String>,
    device: Device,
    precision: Precision,
    max_batch: usize,
    prepared: Vec<Prepared>,
}

/// A compiled graph for one input shape.
struct Prepared {
    key: Key,
    runner: Runner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    batch: usize,
    size: [usize; 2],
    attention: bool,
}

/// Where a model's time and memory go.
#[derive(Clone, Debug)]
pub struct ModelProfile {
    /// Each node of a run.
    pub profile: Profile,
    /// Bytes on the device.
    pub memory: MemoryReport,
    /// What came before the first run.
    pub compile: CompileTimes,
}

/// What a classifier says of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// The model's numbers, one a class.
    pub logits: Vec<f32>,
    /// Their softmax.
    pub probabilities: Vec<f64>,
    /// Where the model looked, if that was asked for.
    pub attention: Option<HeatMap>,
}

/// How much each patch of a picture contributed: rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Rows of patches.
    pub rows: usize,
    /// Patches a row.
    pub columns: usize,
    /// Shares, which sum to at most 1.
    pub values: Vec<f64>,
}

impl Classification {
    fn new(logits: Vec<f32>) -> Self {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|&v| (f64::from(v) - f64::from(most)).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let probabilities = powers.iter().map(|p| p / sum).collect();
        Self { logits, probabilities, attention: None }
    }

    /// The `k` likeliest classes with their probabilities, likeliest first; of equal ones the first class first.
    pub fn top(&self, k: usize) -> Vec<(usize, f64)> {
        let mut classes: Vec<(usize, f64)> = self.probabilities.iter().copied().enumerate().collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        classes.truncate(k);
        classes
    }

    /// The likeliest class.
    pub fn class(&self) -> usize {
        self.top(1).first().map_or(0, |&(class, _)| class)
    }
}

impl Classifier {
    /// Opens a model: `config.json`, `preprocessor_config.json` (or timm's `pretrained_cfg`), and the weights.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        if let (Device::Gpu(gpu), Precision::F16) = (&device, precision)
            && !gpu.tier().f16
        {
            let feature = "16-bit floats (shader-f16)".into();
            return Err(kiln_engine::Error::Unsupported { device: gpu.info().name.clone(), feature }.into());
        }
        let json = read_json(files, "config.json")?.ok_or_else(|| {
            let folder = files.display("");
            Error::Input(format!("{} holds no config.json", folder.trim_end_matches('/')))
        })?;
        let kind = json.get("model_type").or(json.get("architecture")).and_then(Json::as_str);
        match kind {
            Some(kind) if is_classifier(kind) => {}
            Some(kind) => {
                return Err(Error::Config(format!(
                    "model_type {kind:?} is none that Kiln classifies with: vit, deit, and timm's vit_* and deit_*"
                )));
            }
            None => return Err(Error::Config("it names no model_type".into())),
        }
        let config = Config::from_json(&json)?;
        let weights = weights::open(files)?;
        let vit = Vit::new(config, weights.as_ref())?;
        let config = vit.config();
        if config.num_labels == 0 {
            return Err(Error::Config("the model has no classifier".into()));
        }
        if config.num_channels != 3 {
            let channels = config.num_channels;
            return Err(Error::Config(format!("the model wants {channels} channels, and pictures have 3")));
        }
        let size = (config.image_size[0], config.image_size[1]);
        let processor = match (read_json(files, "preprocessor_config.json")?, json.get("pretrained_cfg")) {
            (Some(processor), _) => ImageProcessor::from_config(&processor, size),
            (None, Some(pretrained)) => ImageProcessor::from_timm(pretrained, size),
            (None, None) if json.get("architecture").is_some() => ImageProcessor::from_timm(&json, size),
            // What transformers' processor does by default.
            (None, None) => ImageProcessor::from_config(&Json::Null, size),
        };
        let processor = processor.map_err(|error| Error::Input(error.to_string()))?;
        let labels = labels(&json, config.num_labels);
        Ok(Self { vit, weights, processor, labels, device, precision, max_batch: 16, prepared: Vec::new() })
    }

    /// Opens the model in a folder; see [`Classifier::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        let path = path.into();
        if !path.is_dir() {
            return Err(Error::Input(format!("{} is not a folder", path.display())));
        }
        let files: Arc<dyn Files> = Arc::new(crate::weights::Folder::new(path));
        Self::open(&files, device, precision)
    }

    /// The model.
    pub fn model(&self) -> &Vit {
        &self.vit
    }

    /// What is done to pictures.
    pub fn processor(&self) -> &ImageProcessor {
        &self.processor
    }

    /// A name for each class.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The name of a class.
    pub fn label(&self, class: usize) -> &str {
        self.labels.get(class).map_or("?", String::as_str)
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range. Those that
    /// do so for their rounding ([`Vit::keep_f32`]) are not among them.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.iter().flat_map(|prepared| prepared.runner.kept_f32().clone()).collect()
    }

    /// How many pictures are computed at once; 16 unless it is set.
    pub fn set_max_batch(&mut self, batch: usize) {
        self.max_batch = batch.max(1);
    }

    /// Classifies pictures: those that are equally large for the model as batches. Answers stand in the pictures' order.
    pub async fn classify(&mut self, pictures: &[Picture]) -> Result<Vec<Classification>, Error> {
        self.run(pictures, false).await
    }

    /// Classifies, and says where the model looked: the attention roll-out of each picture.
    pub async fn classify_with_attention(
        &mut self,
        pictures: &[Picture],
    ) -> Result<Vec<Classification>, Error> {
        self.run(pictures, true).await
    }

    async fn run(&mut self, pictures: &[Picture], attention: bool) -> Result<Vec<Classification>, Error> {
        let pixels: Vec<Tensor> = pictures.iter().map(|p| self.processor.pixel_values(p)).collect();
        let mut order: Vec<usize> = (0..pixels.len()).collect();
        let size = |i: usize| match *pixels[i].shape() {
            [_, _, height, width] => [height, width],
            _ => [0; 2],
        };
        order.sort_by_key(|&i| (size(i), i));
        let mut answers: Vec<Option<Classification>> = pixels.iter().map(|_| None).collect();
        for equal in order.chunk_by(|&a, &b| size(a) == size(b)) {
            for chunk in equal.chunks(self.max_batch) {
                let key = Key { batch: chunk.len(), size: size(chunk[0]), attention };
                let found = self.compute(key, &chunk.iter().map(|&i| &pixels[i]).collect::<Vec<_>>()).await?;
                for (&i, answer) in chunk.iter().zip(found) {
                    answers[i] = Some(answer);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// The names of the hidden layers that the roll-out needs, in order.
    fn probabilities(&self) -> Vec<String> {
        (0..self.vit.config().num_hidden_layers).map(|i| format!("attention_probs{i}")).collect()
    }

    /// A runner for at least this many pictures of this size.
    async fn prepare(&mut self, key: Key) -> Result<usize, Error> {
        let fits = |other: &Key| {
            other.batch >= key.batch && other.size == key.size && other.attention == key.attention
        };
        if let Some(found) = self.prepared.iter().position(|prepared| fits(&prepared.key)) {
            return Ok(found);
        }
        let taps = if key.attention { Taps::of(self.probabilities()) } else { Taps::none() };
        let graph = self.vit.graph(key.batch, key.size, &taps)?;
        let (weights, keep_f32) = (self.weights.clone(), self.vit.keep_f32(&graph));
        let runner =
            Runner::new(&self.device, &graph, weights, self.precision, keep_f32, &mut |_, _| {}).await?;
        // Each holds the weights, so only the latest few are worth their memory.
        if self.prepared.len() >= 2 {
            self.prepared.remove(0);
        }
        self.prepared.push(Prepared { key, runner });
        Ok(self.prepared.len() - 1)
    }

    async fn compute(&mut self, key: Key, pixels: &[&Tensor]) -> Result<Vec<Classification>, Error> {
        let at = self.prepare(key).await?;
        let (grid, prefix) = (self.vit.config().grid(key.size), self.vit.config().prefix_tokens());
        let by_token = self.vit.config().timm.class_token;
        let layers = if key.attention { self.vit.config().num_hidden_layers } else { 0 };
        let Some(prepared) = self.prepared.get_mut(at) else { return Ok(Vec::new()) };
        let input = channels_last(pixels, prepared.key.batch, key.size)?;
        let outputs = prepared.runner.run(&[("pixel_values", input)]).await?;
        // Layers come first: they become outputs where they are built.
        let (maps, rest) = outputs.split_at(layers.min(outputs.len()));
        let Some(logits) = rest.last() else { return Ok(Vec::new()) };
        let classes = logits.shape().last().copied().unwrap_or(0).max(1);
        let mut answers: Vec<Classification> = logits
            .to_f32()
            .chunks(classes)
            .take(pixels.len())
            .map(|v| Classification::new(v.to_vec()))
            .collect();
        for answer in &answers {
            if answer.logits.iter().any(|v| !v.is_finite()) {
                let reason = "the model's answer is not a number";
                return Err(Error::Input(reason.into()));
            }
        }
        if key.attention {
            for (i, answer) in answers.iter_mut().enumerate() {
                let values = attention_rollout(maps, i, prefix, by_token);
                answer.attention = Some(HeatMap { rows: grid[0], columns: grid[1], values });
            }
        }
        Ok(answers)
    }

    /// Compiles for one picture and times each node of a run; `None` on the CPU reference.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile_blocking(&mut self, picture: &Picture) -> Result<Option<ModelProfile>, Error> {
        pollster::block_on(async {
            let pixels = self.processor.pixel_values(picture);
            let &[_, _, height, width] = pixels.shape() else { return Ok(None) };
            let key = Key { batch: 1, size: [height, width], attention: false };
            let at = self.prepare(key).await?;
            let Some(prepared) = self.prepared.get_mut(at) else { return Ok(None) };
            let input = channels_last(&[&pixels], prepared.key.batch, key.size)?;
            // The first run settles what stays in f32, and warms up what drivers do late.
            prepared.runner.run(&[("pixel_values", input.clone())]).await?;
            let Some(session) = prepared.runner.session() else { return Ok(None) };
            let profile = session.profile(&[("pixel_values", input)]).await?;
            let (memory, compile) = (session.memory(), session.compile_times());
            Ok(Some(ModelProfile { profile, memory, compile }))
        })
    }

    /// [`Classifier::classify`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn classify_blocking(&mut self, pictures: &[Picture]) -> Result<Vec<Classification>, Error> {
        pollster::block_on(self.classify(pictures))
    }

    /// [`Classifier::classify_with_attention`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn classify_with_attention_blocking(
        &mut self,
        pictures: &[Picture],
    ) -> Result<Vec<Classification>, Error> {
        pollster::block_on(self.classify_with_attention(pictures))
    }
}

/// Whether this `model_type` or timm `architecture` is a classifier that Kiln has.
fn is_classifier(kind: &str) -> bool {
    ["vit", "deit"].contains(&kind) || kind.starts_with("vit_") || kind.starts_with("deit")
}

/// Processed pictures `[1, 3, height, width]` as a batch `[batch, height, width, 3]`; what they do not fill is zeros.
fn channels_last(pixels: &[&Tensor], batch: usize, [height, width]: [usize; 2]) -> Result<Tensor, Error> {
    let plane = height * width;
    let mut values = vec![0.0; batch * plane * 3];
    for (picture, out) in pixels.iter().zip(values.chunks_exact_mut((plane * 3).max(1))) {
        for (channel, from) in picture.to_f32().chunks_exact(plane.max(1)).take(3).enumerate() {
            for (i, &value) in from.iter().enumerate() {
                out[i * 3 + channel] = value;
            }
        }
    }
    Tensor::f32([batch, height, width, 3], values).map_err(|error| Error::Input(error.to_string()))
}

fn read_json(files: &Arc<dyn Files>, name: &str) -> Result<Option<Json>, Error> {
    let wrong = |error: String| Error::Input(format!("{}: {error}", files.display(name)));
    let Some(bytes) = files.read(name, MAX_JSON).map_err(|error| wrong(error.to_string()))? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(format!("it is no JSON: {error}")))
}

/// The classes' names: transformers' `id2label`, timm's `label_names`, or numbers.
fn labels(config: &Json, count: usize) -> Vec<String> {
    let by_id = config.get("id2label");
    let lists = [config.get("label_names"), config.get("pretrained_cfg").and_then(|c| c.get("label_names"))];
    let name = |class: usize| {
        let found = by_id.and_then(|labels| labels.get(class.to_string())).and_then(Json::as_str);
        let listed = lists.iter().flatten().find_map(|list| list.get(class)?.as_str());
        found.or(listed).map_or_else(|| format!("class {class}"), str::to_string)
    };
    (0..count).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;
    use serde_json::json;

    fn open(files: &[(&str, &str)]) -> Result<Classifier, Error> {
        let mut memory = Memory::new();
        for (name, content) in files {
            memory.insert(*name, content.as_bytes());
        }
        let files: Arc<dyn Files> = Arc::new(memory);
        Classifier::open(&files, Device::Cpu, Precision::F32)
    }

    #[test]
    fn folders_that_are_no_classifier_are_refused_in_plain_words() {
        let error = |files: &[(&str, &str)]| open(files).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error(&[]).contains("holds no config.json"));
        assert!(error(&[("config.json", "{")]).contains("no JSON"));
        assert!(error(&[("config.json", "{}")]).contains("names no model_type"));
        assert!(error(&[("config.json", r#"{"model_type": "bert"}"#)]).contains("\"bert\""));
        assert!(error(&[("config.json", r#"{"model_type": "vit"}"#)]).contains("model.safetensors"));
        let pickle = [("config.json", r#"{"model_type": "vit"}"#), ("pytorch_model.bin", "x")];
        assert!(error(&pickle).contains("safetensors.torch.save_file"));
    }

    #[test]
    fn probabilities_are_the_softmax_of_any_logits() {
        let answer = Classification::new(vec![1e4, 1e4 - 1.0, -1e4]);
        assert!((answer.probabilities[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
        assert_eq!(answer.top(2).iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(Classification::new(vec![3.0, 3.0]).class(), 0);
        assert_eq!(answer.top(99).len(), 3);
    }

    #[test]
    fn labels_come_from_either_library() {
        assert_eq!(labels(&json!({"id2label": {"1": "b", "0": "a"}}), 3), ["a", "b", "class 2"]);
        assert_eq!(labels(&json!({"label_names": ["x", "y"]}), 2), ["x", "y"]);
    }

    #[test]
    fn batches_have_channels_last() {
        let picture = Tensor::f32([1, 3, 1, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let batch = channels_last(&[&picture], 2, [1, 2]).unwrap();
        assert_eq!(batch.to_f64(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
