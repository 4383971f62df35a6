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

mod network;
mod rollout;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};
use serde_json::Value as Json;

use crate::image::{HeatMap, ImageProcessor, Picture, batch};
use crate::prepared::Prepared;
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, Taps, folder};

pub use network::Network;
pub use rollout::attention_rollout;

/// A classifier with its labels, its image processor and a device to run on. Compiles a session when it first meets an
/// input size, and keeps it.
pub struct Classifier {
    network: Network,
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
    batch: usize,
    size: [usize; 2],
    attention: bool,
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
        folder::check_precision(&device, precision)?;
        let json = folder::config(files)?;
        Network::check(&json)?;
        let weights = weights::open(files)?;
        let network = Network::open(&json, weights.as_ref())?;
        if network.num_labels() == 0 {
            return Err(Error::Config("the model has no classifier".into()));
        }
        if network.num_channels() != 3 {
            let channels = network.num_channels();
            return Err(Error::Config(format!("the model wants {channels} channels, and pictures have 3")));
        }
        let [height, width] = network.image_size();
        let size = (height, width);
        let processor =
            match (folder::read_json(files, "preprocessor_config.json")?, json.get("pretrained_cfg")) {
                (Some(processor), _) => ImageProcessor::from_config(&processor, size),
                (None, Some(pretrained)) => ImageProcessor::from_timm(pretrained, size),
                (None, None) if json.get("architecture").is_some() => ImageProcessor::from_timm(&json, size),
                // What transformers' processor does by default.
                (None, None) => ImageProcessor::from_config(&Json::Null, size),
            };
        let processor = processor.map_err(|error| Error::Input(error.to_string()))?;
        let labels = folder::labels(&json, network.num_labels());
        Ok(Self {
            network,
            weights,
            processor,
            labels,
            device,
            precision,
            max_batch: 16,
            prepared: Prepared::new(),
        })
    }

    /// Opens the model in a folder; see [`Classifier::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }

    /// The model.
    pub fn model(&self) -> &Network {
        &self.network
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
    /// do so for their rounding ([`crate::vit::Vit::keep_f32`]) are not among them.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
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
        if self.network.attention_layers() == 0 {
            return Err(Error::Input("a residual network has no attention to show".into()));
        }
        self.run(pictures, true).await
    }

    async fn run(&mut self, pictures: &[Picture], attention: bool) -> Result<Vec<Classification>, Error> {
        let pixels: Vec<Tensor> = pictures.iter().map(|p| self.processor.pixel_values(p)).collect();
        let mut order: Vec<usize> = (0..pixels.len()).collect();
        let size = |i: usize| batch::size(&pixels[i]);
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
        (0..self.network.attention_layers()).map(|i| format!("attention_probs{i}")).collect()
    }

    /// A runner for at least this many pictures of this size, and what it was compiled for.
    async fn prepare(&mut self, key: Key) -> Result<&mut (Key, Runner), Error> {
        let fits = |other: &Key| {
            other.batch >= key.batch && other.size == key.size && other.attention == key.attention
        };
        let taps = if key.attention { Taps::of(self.probabilities()) } else { Taps::none() };
        let (network, device, precision) = (&self.network, &self.device, self.precision);
        let weights = self.weights.clone();
        let make = async {
            let graph = network.graph(key.batch, key.size, &taps)?;
            let keep_f32 = network.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        self.prepared.get(key, fits, make).await
    }

    async fn compute(&mut self, key: Key, pixels: &[&Tensor]) -> Result<Vec<Classification>, Error> {
        let layers = if key.attention { self.network.attention_layers() } else { 0 };
        let (prepared, runner) = self.prepare(key).await?;
        let input = batch::batch(pixels, prepared.batch, key.size).map_err(GraphError::from)?;
        let outputs = runner.run(&[("pixel_values", input)]).await?;
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
        if let (true, Network::Vit(vit)) = (key.attention, &self.network) {
            let config = vit.config();
            let [rows, columns] = config.grid(key.size);
            for (i, answer) in answers.iter_mut().enumerate() {
                let values = attention_rollout(maps, i, config.prefix_tokens(), config.timm.class_token);
                answer.attention = Some(HeatMap { rows, columns, values });
            }
        }
        Ok(answers)
    }

    /// Compiles for one picture and times each node of a run; `None` on the CPU reference.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile_blocking(&mut self, picture: &Picture) -> Result<Option<crate::ModelProfile>, Error> {
        pollster::block_on(async {
            let pixels = self.processor.pixel_values(picture);
            let key = Key { batch: 1, size: batch::size(&pixels), attention: false };
            let (prepared, runner) = self.prepare(key).await?;
            let input = batch::batch(&[&pixels], prepared.batch, key.size).map_err(GraphError::from)?;
            runner.profile(&[("pixel_values", input)]).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;

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
}
