//! Pictures of a generator, by seeds.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};

use super::Dcgan;
use crate::image::Picture;
use crate::prepared::Prepared;
use crate::weights::{self, Files, SharedWeights};
use crate::{Device, Error, Runner, Taps, folder, random};

/// Most pictures that are made at once.
const MAX_BATCH: usize = 64;

/// A generator on a device. Compiles a graph when it first meets a number of pictures, and keeps it.
///
/// ```no_run
/// use kiln_engine::{Gpu, GpuOptions, Precision};
/// use kiln_models::Device;
/// use kiln_models::dcgan::Sampler;
///
/// let gpu = Gpu::open_blocking(&GpuOptions::default())?;
/// let mut sampler = Sampler::from_folder("dcgan-faces", Device::Gpu(gpu), Precision::F32)?;
/// let pictures = sampler.sample_blocking(&[1, 2, 3])?;
/// std::fs::write("face.png", pictures[0].to_png()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sampler {
    model: Dcgan,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    prepared: Prepared<usize>,
}

impl Sampler {
    /// Opens a generator's weights, which tell all that there is to know. [`Error::Input`] where it makes neither grey
    /// pictures nor RGB.
    pub fn open(files: &Arc<dyn Files>, device: Device, precision: Precision) -> Result<Self, Error> {
        folder::check_precision(&device, precision)?;
        let weights = weights::open(files)?;
        let model = Dcgan::new(weights.as_ref())?;
        if ![1, 3].contains(&model.channels()) {
            let channels = model.channels();
            return Err(Error::Input(format!("images of {channels} channels are no pictures")));
        }
        Ok(Self { model, weights, device, precision, prepared: Prepared::new() })
    }

    /// Opens the generator in a folder; see [`Sampler::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_folder(
        path: impl Into<std::path::PathBuf>,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        Self::open(&folder::open(path.into())?, device, precision)
    }

    /// The model.
    pub fn model(&self) -> &Dcgan {
        &self.model
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    /// Noise for each seed, `[seeds, nz]`: what `torch.randn(1, nz, 1, 1)` draws with a generator of that seed on a CPU.
    pub fn latents(&self, seeds: &[u64]) -> Result<Tensor, Error> {
        let width = self.model.latent_dim();
        let rows = seeds.iter().flat_map(|&seed| random::Generator::new(seed).normals(width)).collect();
        Ok(Tensor::f32([seeds.len(), width], rows).map_err(GraphError::from)?)
    }

    /// The images of noise `[batch, nz]`: `[batch, size, size, channels]` in -1..1.
    pub async fn images(&mut self, latents: &Tensor) -> Result<Tensor, Error> {
        let width = self.model.latent_dim();
        let (&[batch, own], true) = (latents.shape(), latents.dtype().is_float()) else {
            return Err(Error::Input(format!("{} are no latents [batch, {width}]", latents.desc())));
        };
        if own != width {
            return Err(Error::Input(format!("latents have {own} numbers, and the model wants {width}")));
        }
        let (model, device, weights, precision) =
            (&self.model, &self.device, self.weights.clone(), self.precision);
        let make = async {
            let graph = model.graph(batch, &Taps::none())?;
            Runner::new(device, &graph, weights, precision, BTreeSet::new(), &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.get(batch, |&other| other == batch, make).await?;
        let image = runner.run(&[("latents", latents.clone())]).await?.into_iter().next();
        image.ok_or_else(|| Error::Input("the model gave nothing".into()))
    }

    /// A picture for each seed, which depends on that seed alone.
    pub async fn sample(&mut self, seeds: &[u64]) -> Result<Vec<Picture>, Error> {
        let mut pictures = Vec::with_capacity(seeds.len());
        for seeds in seeds.chunks(MAX_BATCH) {
            let images = rgb(&self.images(&self.latents(seeds)?).await?)?;
            let made = Picture::from_images(&images);
            pictures.extend(made.map_err(|error| Error::Input(format!("a picture {error}")))?);
        }
        Ok(pictures)
    }

    /// [`Sampler::sample`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn sample_blocking(&mut self, seeds: &[u64]) -> Result<Vec<Picture>, Error> {
        pollster::block_on(self.sample(seeds))
    }
}

/// Images with three channels, of grey ones too.
fn rgb(images: &Tensor) -> Result<Tensor, Error> {
    let &[batch, height, width, 1] = images.shape() else { return Ok(images.clone()) };
    let values = images.to_f32().iter().flat_map(|&grey| [grey; 3]).collect();
    Ok(Tensor::f32([batch, height, width, 3], values).map_err(GraphError::from)?)
}
