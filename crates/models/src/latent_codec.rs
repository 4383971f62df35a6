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

pub(crate) mod memory;
mod tiling;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{Graph, Tensor, Tier, passes};
use serde_json::Value as Json;

use crate::autoencoder_kl::{self, Autoencoder};
use crate::autoencoder_tiny::{self, TinyAutoencoder};
use crate::latents::{LatentDist, Scaling};
use crate::prepared::Prepared;
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, Taps, folder};

pub use tiling::Tiles;
use tiling::{Half, Seams};

/// Whether images are worked on in tiles. Each tile sees itself alone, in convolutions, norms and attention, so that tiles
/// change what comes out: a little where they are large, and in colours where they are small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tiling {
    /// Never.
    #[default]
    Never,
    /// Where an image is larger than a tile, in tiles of so many latents along a side: a multiple of 8.
    Latents(usize),
    /// Where an image is larger than the images that the model was made for, in tiles of that size: diffusers' default.
    ModelSize,
    /// Where the device would need more bytes than that otherwise, weights included, in the largest tiles that need no
    /// more. A batch is worked on image by image.
    Within(u64),
}

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

    /// The graph of a half for `batch` images of `[height, width]`; its output is that which is blended.
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

    /// Channels of what goes into a half.
    fn channels(&self, half: Half) -> usize {
        match (self, half) {
            (_, Half::Decoder) => self.latent_channels(),
            (Self::Kl(model), Half::Encoder) => model.config().in_channels,
            (Self::Tiny(model), Half::Encoder) => model.config().in_channels,
        }
    }

    /// How the model's tiles meet.
    fn seams(&self) -> Seams {
        match self {
            Self::Kl(_) => Seams::Crop,
            Self::Tiny(_) => Seams::Mask,
        }
    }

    /// Latents along a side of the images that the model was made for, in whole eights.
    fn model_size(&self) -> usize {
        let side = match self {
            Self::Kl(model) => model.config().sample_size / model.spatial_factor(),
            // diffusers' own choice.
            Self::Tiny(_) => 64,
        };
        (side / tiling::QUANTUM).max(1) * tiling::QUANTUM
    }
}

/// What a graph is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    half: Half,
    batch: usize,
    size: [usize; 2],
}

/// An autoencoder on a device. Compiles a graph when it first meets a size, and keeps it.
pub struct LatentCodec {
    model: AnyAutoencoder,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    tiling: Tiling,
    prepared: Prepared<Key>,
    tiles: Option<Tiles>,
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
        let (tiling, prepared) = (Tiling::Never, Prepared::new());
        Ok(Self { model, weights, device, precision, tiling, prepared, tiles: None })
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
        Self {
            model: self.model.clone(),
            weights: self.weights.clone(),
            device: self.device.clone(),
            precision: self.precision,
            tiling: self.tiling,
            prepared: Prepared::new(),
            tiles: None,
        }
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        folder::check_precision(&device, self.precision)?;
        self.release();
        self.device = device;
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &AnyAutoencoder {
        &self.model
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether it works in tiles; never unless that is set.
    pub fn set_tiling(&mut self, tiling: Tiling) {
        self.tiling = tiling;
    }

    /// The tiles of the latest call, where it worked in tiles.
    pub fn tiles(&self) -> Option<Tiles> {
        self.tiles
    }

    /// Bytes that the compiled graph which was used last holds on the device; `None` on the CPU reference.
    pub fn memory(&self) -> Option<kiln_engine::MemoryReport> {
        self.prepared.runners().last()?.session().map(|session| session.memory())
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    /// Lets go of what is compiled, and of the memory that it holds on the device.
    pub fn release(&mut self) {
        self.prepared.clear();
    }

    /// The latents of `image` `[batch, height, width, channels]`, not scaled for a diffusion model.
    pub async fn encode(&mut self, image: &Tensor) -> Result<LatentDist, Error> {
        let encoded = self.compute(Half::Encoder, image).await?;
        match &self.model {
            AnyAutoencoder::Kl(_) => LatentDist::of_moments(&encoded),
            AnyAutoencoder::Tiny(_) => Ok(LatentDist::exactly(encoded)),
        }
    }

    /// The images of `latents` `[batch, height, width, latent_channels]`, which are not scaled for a diffusion model; see
    /// [`Scaling::unscale`].
    pub async fn decode(&mut self, latents: &Tensor) -> Result<Tensor, Error> {
        self.compute(Half::Decoder, latents).await
    }

    /// What a half makes of `input`, in tiles where that is asked for.
    async fn compute(&mut self, half: Half, input: &Tensor) -> Result<Tensor, Error> {
        let channels = self.model.channels(half);
        let (&[batch, height, width, own], true) = (input.shape(), input.dtype().is_float()) else {
            return Err(Error::Input(format!(
                "{} are no images [batch, height, width, channels]",
                input.desc()
            )));
        };
        if own != channels {
            return Err(Error::Input(format!("images have {own} channels, and the model wants {channels}")));
        }
        self.tiles = None;
        let size = [height, width];
        let Tiling::Within(limit) = self.tiling else {
            let side = match self.tiling {
                Tiling::Latents(side) => Some(side),
                Tiling::ModelSize => Some(self.model.model_size()),
                _ => None,
            };
            let Some(tiles) = side.map(|side| self.tiles_of(half, side, size)).transpose()?.flatten() else {
                let key = Key { half, batch, size };
                return self.whole(key, input).await;
            };
            return self.in_tiles(half, input, tiles).await;
        };
        let mut images = Vec::new();
        for image in 0..batch {
            let image = tiling::cut(input, image..image + 1, [0..height, 0..width])?;
            images.push(self.within(limit, half, &image, size).await?);
        }
        tiling::stack(&images)
    }

    /// Tiles of so many latents along a side, where an image is larger than one.
    fn tiles_of(&self, half: Half, side: usize, size: [usize; 2]) -> Result<Option<Tiles>, Error> {
        Tiles::new(half, side, size, self.model.spatial_factor(), self.model.seams())
    }

    async fn whole(&mut self, key: Key, input: &Tensor) -> Result<Tensor, Error> {
        let runner = self.prepare(key).await?;
        let name = match key.half {
            Half::Encoder => "image",
            Half::Decoder => "latents",
        };
        let output = runner.run(&[(name, input.clone())]).await?.into_iter().next();
        output.ok_or_else(|| Error::Input("the model gave nothing".into()))
    }

    async fn prepare(&mut self, key: Key) -> Result<&mut Runner, Error> {
        // Where memory is short, two graphs with their weights are one too many.
        let kept = if matches!(self.tiling, Tiling::Within(_)) { 1 } else { 2 };
        let (model, device, precision) = (&self.model, &self.device, self.precision);
        let weights = self.weights.clone();
        let make = async {
            let graph = model.graph(key.half, key.batch, key.size)?;
            Runner::new(device, &graph, weights, precision, BTreeSet::new(), &mut |_, _| {}).await
        };
        Ok(&mut self.prepared.keeping(kept, key, |other| *other == key, make).await?.1)
    }

    async fn in_tiles(&mut self, half: Half, input: &Tensor, tiles: Tiles) -> Result<Tensor, Error> {
        let batch = input.shape().first().copied().unwrap_or(0);
        log::info!("{tiles}");
        let places = tiles.places();
        let mut results: Vec<Option<Tensor>> = places.iter().map(|_| None).collect();
        // Tiles of one size after another, since those at the edges are smaller and have graphs of their own.
        let mut sizes: Vec<[usize; 2]> = Vec::new();
        for place in &places {
            if !sizes.contains(&place.size()) {
                sizes.push(place.size());
            }
        }
        for size in sizes {
            for (place, result) in places.iter().zip(&mut results).filter(|(place, _)| place.size() == size) {
                let tile = tiling::cut(input, 0..batch, place.range.clone())?;
                *result = Some(self.whole(Key { half, batch, size }, &tile).await?);
            }
        }
        let results: Vec<Tensor> = results.into_iter().flatten().collect();
        self.tiles = Some(tiles);
        tiles.join(&results)
    }

    /// A single image, in the largest tiles for which the device needs no more than `limit` bytes.
    async fn within(
        &mut self,
        limit: u64,
        half: Half,
        image: &Tensor,
        size: [usize; 2],
    ) -> Result<Tensor, Error> {
        let factor = if half == Half::Encoder { self.model.spatial_factor() } else { 1 };
        let longest = size.into_iter().max().unwrap_or(0).div_ceil(factor).div_ceil(tiling::QUANTUM);
        let tier = match &self.device {
            Device::Gpu(gpu) => gpu.tier().clone(),
            Device::Cpu => Tier::webgpu(),
        };
        let mut least = 0;
        // The whole image, then tiles that are smaller and smaller.
        for step in (1..=longest).rev() {
            let tiles = self.tiles_of(half, step * tiling::QUANTUM, size)?;
            let part = tiles.map_or(size, |tiles| tiles.largest());
            let key = Key { half, batch: 1, size: part };
            let known = self.prepared.holds(|other| *other == key);
            least = memory::estimate(&self.model.graph(half, 1, part)?, self.precision, &tier)?;
            if least > limit && !known {
                continue;
            }
            // The estimate leaves out what ops need for themselves.
            if let Some(session) = self.prepare(key).await?.session() {
                least = session.memory().total();
                if least > limit {
                    continue;
                }
            }
            return match tiles {
                Some(tiles) => self.in_tiles(half, image, tiles).await,
                None => self.whole(key, image).await,
            };
        }
        let [height, width] = size;
        Err(Error::Input(format!(
            "{height}x{width} cannot be worked on within {limit} bytes: even the smallest tiles need {least}"
        )))
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
