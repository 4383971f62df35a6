//! Pictures to latents and back, by whichever autoencoder a folder holds.
//!
//! ```no_run
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_graph::Tensor;
//! use kiln_models::{Device, LatentCodec, Tiling};
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut codec = LatentCodec::from_folder("sd-vae-ft-mse", Device::Gpu(gpu), Precision::F32)?;
//! codec.set_tiling(Tiling::Within(300 << 20));
//! let image = Tensor::f32([1, 512, 512, 3], vec![0.0; 512 * 512 * 3])?;
//! let latents = codec.encode_blocking(&image)?.mode().clone();
//! let again = codec.decode_blocking(&latents)?;
//! assert_eq!(again.shape(), image.shape());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tensors are images with channels last, `[batch, height, width, channels]`; pixels are in -1..1.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{DType, Graph, Tensor, passes};
use serde_json::Value as Json;

use crate::autoencoder_kl::{self, Autoencoder};
use crate::autoencoder_tiny::{self, TinyAutoencoder};
use crate::latents::{LatentDist, Scaling};
use crate::tiled::{Half, Input, Seams, Tileable, Tiled};
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Taps, folder};

pub use crate::tiled::{Tiles, Tiling};

/// An autoencoder of one kind or the other.
#[derive(Clone, Debug)]
pub enum AnyAutoencoder {
    /// diffusers' `AutoencoderKL`.
    Kl(Autoencoder),
    /// diffusers' `AutoencoderTiny`.
    Tiny(TinyAutoencoder),
}

impl AnyAutoencoder {
    /// The model that `config` names, which is one of the two.
    pub fn new(config: &Json, weights: &dyn weights::Weights) -> Result<Self, Error> {
        match config.get("_class_name").and_then(Json::as_str) {
            Some("AutoencoderKL") => {
                let config = autoencoder_kl::Config::from_json(config)?;
                Ok(Self::Kl(Autoencoder::new(config, weights)?))
            }
            Some("AutoencoderTiny") => {
                let config = autoencoder_tiny::Config::from_json(config)?;
                Ok(Self::Tiny(TinyAutoencoder::new(config, weights)?))
            }
            Some(other) => Err(Error::Config(format!(
                "_class_name {other:?} is none that Kiln has latents of: AutoencoderKL or AutoencoderTiny"
            ))),
            None => Err(Error::Config("it names no _class_name".into())),
        }
    }

    /// How many pixels of an image, along each side, become one of the latents.
    pub fn spatial_factor(&self) -> usize {
        match self {
            Self::Kl(model) => model.spatial_factor(),
            Self::Tiny(model) => model.spatial_factor(),
        }
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        match self {
            Self::Kl(model) => model.config().latent_channels,
            Self::Tiny(model) => model.config().latent_channels,
        }
    }

    /// How latents are scaled for a diffusion model.
    pub fn scaling(&self) -> &Scaling {
        match self {
            Self::Kl(model) => model.scaling(),
            Self::Tiny(model) => model.scaling(),
        }
    }
}

impl Tileable for AnyAutoencoder {
    fn spatial_factor(&self) -> usize {
        self.spatial_factor()
    }

    fn graph(&self, half: Half, batch: usize, size: [usize; 2]) -> Result<Graph, Error> {
        let taps = Taps::none();
        let graph = match (self, half) {
            (Self::Kl(model), Half::Encoder) => {
                return Ok(passes::select_outputs(model.encode_graph(batch, size, &taps)?, &["moments"])?);
            }
            (Self::Kl(model), Half::Decoder) => model.decode_graph(batch, size, &taps)?,
            (Self::Tiny(model), Half::Encoder) => model.encode_graph(batch, size, &taps)?,
            (Self::Tiny(model), Half::Decoder) => model.decode_graph(batch, size, &taps)?,
        };
        Ok(graph)
    }

    fn input(&self, half: Half) -> Input {
        let (name, channels) = match (self, half) {
            (_, Half::Decoder) => ("latents", self.latent_channels()),
            (Self::Kl(model), Half::Encoder) => ("image", model.config().in_channels),
            (Self::Tiny(model), Half::Encoder) => ("image", model.config().in_channels),
        };
        Input { name, channels, dtype: DType::F32 }
    }

    fn seams(&self) -> Seams {
        match self {
            Self::Kl(_) => Seams::Crop,
            Self::Tiny(_) => Seams::Mask,
        }
    }

    fn model_size(&self) -> usize {
        match self {
            Self::Kl(model) => model.config().sample_size / model.spatial_factor(),
            // diffusers' own choice.
            Self::Tiny(_) => 64,
        }
    }
}

/// An autoencoder on a device. Compiles a graph when it first meets a size, and keeps it.
pub struct LatentCodec {
    halves: Tiled<AnyAutoencoder>,
}

impl LatentCodec {
    /// The autoencoder that `config` and `weights` describe.
    pub fn new(
        config: &Json,
        weights: SharedWeights,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        folder::check_precision(&device, precision)?;
        let model = AnyAutoencoder::new(config, weights.as_ref())?;
        Ok(Self { halves: Tiled::new(model, weights, device, precision) })
    }

    /// Opens a model: `config.json` and the weights.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        Self::new(&folder::config(files)?, weights::open(files)?, device, precision)
    }

    /// Opens the model in a folder; see [`LatentCodec::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }

    /// The same autoencoder, with nothing compiled yet: for previews, while this one is at work.
    pub fn another(&self) -> Self {
        Self { halves: self.halves.another() }
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        self.halves.set_device(device)
    }

    /// The model.
    pub fn model(&self) -> &AnyAutoencoder {
        self.halves.model()
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        self.halves.device()
    }

    /// Whether it works in tiles; never unless that is set.
    pub fn set_tiling(&mut self, tiling: Tiling) {
        self.halves.set_tiling(tiling);
    }

    /// The tiles of the latest call, where it worked in tiles.
    pub fn tiles(&self) -> Option<Tiles> {
        self.halves.tiles()
    }

    /// Bytes that the compiled graph which was used last holds on the device; `None` on the CPU reference.
    pub fn memory(&self) -> Option<kiln_engine::MemoryReport> {
        self.halves.memory()
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.halves.kept_f32()
    }

    /// Lets go of what is compiled, and of the memory that it holds on the device.
    pub fn release(&mut self) {
        self.halves.release();
    }

    /// The latents of `image` `[batch, height, width, channels]`, not scaled for a diffusion model.
    pub async fn encode(&mut self, image: &Tensor) -> Result<LatentDist, Error> {
        let encoded = self.halves.compute(Half::Encoder, image).await?;
        match self.halves.model() {
            AnyAutoencoder::Kl(_) => LatentDist::of_moments(&encoded),
            AnyAutoencoder::Tiny(_) => Ok(LatentDist::exactly(encoded)),
        }
    }

    /// The images of `latents` `[batch, height, width, latent_channels]`, which are not scaled for a diffusion model; see
    /// [`Scaling::unscale`].
    pub async fn decode(&mut self, latents: &Tensor) -> Result<Tensor, Error> {
        self.halves.compute(Half::Decoder, latents).await
    }

    /// [`LatentCodec::encode`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn encode_blocking(&mut self, image: &Tensor) -> Result<LatentDist, Error> {
        pollster::block_on(self.encode(image))
    }

    /// [`LatentCodec::decode`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn decode_blocking(&mut self, latents: &Tensor) -> Result<Tensor, Error> {
        pollster::block_on(self.decode(latents))
    }
}
