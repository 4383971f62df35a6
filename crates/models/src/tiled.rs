//! The halves of an autoencoder on a device, which work on images of any size: whole, or in tiles.

pub(crate) mod memory;
pub(crate) mod tiling;

use std::collections::BTreeSet;

use kiln_engine::{MemoryReport, Precision};
use kiln_graph::{DType, Graph, Tensor, Tier};

use crate::prepared::Prepared;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner, folder};

pub use tiling::Tiles;
pub(crate) use tiling::{Half, Seams};

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

/// An autoencoder whose halves work on tiles.
pub(crate) trait Tileable {
    /// How many pixels of an image, along each side, become one of the latents.
    fn spatial_factor(&self) -> usize;

    /// The graph of a half for `batch` images of `[height, width]`; its output is that which is blended.
    fn graph(&self, half: Half, batch: usize, size: [usize; 2]) -> Result<Graph, Error>;

    /// What goes into a half.
    fn input(&self, half: Half) -> Input;

    /// Paths of the nodes of a graph that should stay f32 where the rest is stored in f16.
    fn keep_f32(&self, _graph: &Graph) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// How tiles meet.
    fn seams(&self) -> Seams;

    /// Latents along a side of the images that the model was made for.
    fn model_size(&self) -> usize;
}

/// The input of a half: images `[batch, height, width, channels]`.
pub(crate) struct Input {
    pub name: &'static str,
    pub channels: usize,
    /// Its type; any floats will do for floats.
    pub dtype: DType,
}

/// What a graph is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    half: Half,
    batch: usize,
    size: [usize; 2],
}

/// An autoencoder on a device. Compiles a graph when it first meets a size, and keeps it.
pub(crate) struct Tiled<M> {
    model: M,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    tiling: Tiling,
    prepared: Prepared<Key>,
    tiles: Option<Tiles>,
}

impl<M: Tileable + Clone> Tiled<M> {
    /// On a device that has the precision.
    pub fn new(model: M, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        let (tiling, prepared) = (Tiling::Never, Prepared::new());
        Self { model, weights, device, precision, tiling, prepared, tiles: None }
    }

    /// The same, with nothing compiled yet.
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

    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        folder::check_precision(&device, self.precision)?;
        self.release();
        self.device = device;
        Ok(())
    }

    pub fn model(&self) -> &M {
        &self.model
    }

    pub fn weights(&self) -> &SharedWeights {
        &self.weights
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn set_tiling(&mut self, tiling: Tiling) {
        self.tiling = tiling;
    }

    /// The tiles of the latest call, where it worked in tiles.
    pub fn tiles(&self) -> Option<Tiles> {
        self.tiles
    }

    /// Bytes that the compiled graph which was used last holds on the device; `None` on the CPU reference.
    pub fn memory(&self) -> Option<MemoryReport> {
        self.prepared.runners().last()?.session().map(|session| session.memory())
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    pub fn release(&mut self) {
        self.prepared.clear();
    }

    /// What a half makes of `input`, in tiles where that is asked for.
    pub async fn compute(&mut self, half: Half, input: &Tensor) -> Result<Tensor, Error> {
        let Input { channels, dtype, .. } = self.model.input(half);
        let suits = input.dtype() == dtype || (dtype.is_float() && input.dtype().is_float());
        let (&[batch, height, width, own], true) = (input.shape(), suits) else {
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
                Tiling::ModelSize => {
                    Some((self.model.model_size() / tiling::QUANTUM).max(1) * tiling::QUANTUM)
                }
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
        let name = self.model.input(key.half).name;
        let runner = self.prepare(key).await?;
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
            let keep_f32 = model.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
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
}
