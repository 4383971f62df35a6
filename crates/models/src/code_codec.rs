//! Pictures to codes and back, by an autoencoder with a codebook: a compressor of pictures.
//!
//! ```no_run
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_models::code_codec::CodeMap;
//! use kiln_models::image::Picture;
//! use kiln_models::{CodeCodec, Device};
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut codec = CodeCodec::from_folder("vqgan-f16-16384", Device::Gpu(gpu), Precision::F32)?;
//! let picture = Picture::decode(&std::fs::read("cat.jpg")?)?;
//! let bytes = codec.encode_blocking(&picture)?.to_bytes();
//! let again = codec.decode_blocking(&CodeMap::from_bytes(&bytes)?)?;
//! assert_eq!((again.width, again.height), (picture.width, picture.height));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`CodeMap`] has a code for each square of f x f pixels, where f is [`VqModel::spatial_factor`]. Its bytes are those of a
//! `.codes` file, whose format [`CodeMap::to_bytes`] describes.

mod arithmetic;
mod code_map;
mod file;
mod frame;
mod indices;
mod network;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::{MemoryReport, Precision};
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor};
use serde_json::Value as Json;

use crate::image::Picture;
use crate::prepared::Prepared;
use crate::tiled::{Half, Tiled, Tiles, Tiling};
use crate::vq_model::{self, VqModel};
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, folder};

pub use code_map::{CodeMap, Codebook};
pub use file::CodesError;

/// An autoencoder with a codebook on a device. Compiles a graph when it first meets a size, and keeps it.
pub struct CodeCodec {
    halves: Tiled<VqModel>,
    /// What chooses codes, by the map's height and width.
    quantizer: Prepared<[usize; 2]>,
    codebook: Codebook,
}

impl CodeCodec {
    /// The autoencoder that `config` and `weights` describe, in diffusers' layout or in that of the paper's code. Of a model
    /// of two stages it is the first. [`Error::Config`] where it is none, or
    /// where its images are not RGB.
    pub fn new(
        config: &Json,
        weights: SharedWeights,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        folder::check_precision(&device, precision)?;
        if !vq_model::Config::is_named(config) {
            return Err(Error::Config("it is of no autoencoder with a codebook".into()));
        }
        let weights = vq_model::diffusers_names(weights);
        let model = VqModel::new(vq_model::Config::from_json(config)?, weights.as_ref())?;
        let (takes, gives) = (model.config().in_channels, model.config().out_channels);
        if [takes, gives] != [3, 3] {
            return Err(Error::Config(format!(
                "the model makes images of {gives} channels of such of {takes}, and pictures have 3"
            )));
        }
        let codebook = Codebook::of(&weights.load(model.config().quantizer.codebook())?);
        let halves = Tiled::new(model, weights, device, precision);
        Ok(Self { halves, quantizer: Prepared::new(), codebook })
    }

    /// Opens a model: its weights, and `config.json` or, where there is none, a YAML file as the paper's code has it:
    /// `config.yaml`, `project.yaml`, one whose name ends so, or the only one.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        let (name, config) = folder::model_config(files)?;
        let opened = Self::new(&config, weights::open(files)?, device, precision);
        opened.map_err(|error| folder::naming(error, files, &name))
    }

    /// Opens the model in a folder; see [`CodeCodec::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        self.quantizer.clear();
        self.halves.set_device(device)
    }

    /// The model.
    pub fn model(&self) -> &VqModel {
        self.halves.model()
    }

    /// Which codebook its codes are of.
    pub fn codebook(&self) -> Codebook {
        self.codebook
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        self.halves.device()
    }

    /// Whether it works in tiles; never unless that is set. Encoding blends latents, before codes are chosen, and decoding
    /// pictures.
    pub fn set_tiling(&mut self, tiling: Tiling) {
        self.halves.set_tiling(tiling);
    }

    /// The tiles of the latest call, where it worked in tiles.
    pub fn tiles(&self) -> Option<Tiles> {
        self.halves.tiles()
    }

    /// Bytes that the half which was used last holds on the device; `None` on the CPU reference.
    pub fn memory(&self) -> Option<MemoryReport> {
        self.halves.memory()
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.halves.kept_f32()
    }

    /// Lets go of what is compiled, and of the memory that it holds on the device.
    pub fn release(&mut self) {
        self.quantizer.clear();
        self.halves.release();
    }

    /// The codes of a picture. Where its sides are no multiples of f, its last column and row are repeated up to such.
    /// [`Error::Input`] where a side is smaller than f.
    pub async fn encode(&mut self, picture: &Picture) -> Result<CodeMap, Error> {
        let factor = self.model().spatial_factor();
        let size = [picture.height, picture.width];
        if size.iter().any(|&side| side < factor) {
            let [height, width] = size;
            return Err(Error::Input(format!(
                "a picture of {width}x{height} pixels cannot be encoded: the model wants {factor}x{factor} at least"
            )));
        }
        let image = frame::padded(picture, factor)?.to_image().map_err(GraphError::from)?;
        let latents = self.halves.compute(Half::Encoder, &image).await?;
        let codes = self.quantize(latents).await?;
        let codes = codes.to_f64().into_iter().map(|code| code as u32).collect();
        Ok(CodeMap::new(size.map(|side| side.div_ceil(factor)), codes, size, self.codebook)?)
    }

    /// The picture of codes. [`Error::Codes`] where they are of another codebook, or of a model with another f.
    pub async fn decode(&mut self, map: &CodeMap) -> Result<Picture, Error> {
        let factor = self.model().spatial_factor();
        if map.codebook() != self.codebook {
            return Err(CodesError::OtherCodebook.into());
        }
        let [height, width] = [map.height(), map.width()];
        if map.picture_size().map(|side| side.div_ceil(factor)) != [height, width] {
            return Err(CodesError::OtherFactor { factor }.into());
        }
        let codes = map.codes().iter().map(|&code| code as i32).collect();
        let codes = Tensor::i32([1, height, width, 1], codes).map_err(GraphError::from)?;
        let image = self.halves.compute(Half::Decoder, &codes).await?;
        frame::picture(&image, map.picture_size())
    }

    /// The codes of latents `[1, height, width, vq_embed_dim]`: in f32 always, since near ties are many.
    async fn quantize(&mut self, latents: Tensor) -> Result<Tensor, Error> {
        let &[_, height, width, channels] = latents.shape() else {
            return Err(Error::Input(format!("{} are no latents", latents.desc())));
        };
        let (model, device) = (self.halves.model(), self.halves.device());
        let weights = self.halves.weights().clone();
        let make = async {
            let graph = quantizer(model, [1, height, width, channels])?;
            Runner::new(device, &graph, weights, Precision::F32, BTreeSet::new(), &mut |_, _| {}).await
        };
        let size = [height, width];
        let (_, runner) = self.quantizer.keeping(1, size, |other| *other == size, make).await?;
        let codes = runner.run(&[("latents", latents)]).await?.into_iter().next();
        codes.ok_or_else(|| Error::Input("the model gave no codes".into()))
    }

    /// [`CodeCodec::encode`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn encode_blocking(&mut self, picture: &Picture) -> Result<CodeMap, Error> {
        pollster::block_on(self.encode(picture))
    }

    /// [`CodeCodec::decode`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn decode_blocking(&mut self, map: &CodeMap) -> Result<Picture, Error> {
        pollster::block_on(self.decode(map))
    }
}

fn quantizer(model: &VqModel, shape: [usize; 4]) -> Result<Graph, GraphError> {
    let mut b = Builder::new();
    let latents = b.input("latents", shape, DType::F32)?;
    let codes = model.quantize(&mut b, latents)?;
    b.output("codes", codes)?;
    Ok(b.finish())
}
