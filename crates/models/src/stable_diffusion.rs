//! Stable Diffusion: pictures from prompts, from pictures, and within pictures.
//!
//! ```no_run
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_models::stable_diffusion::{Request, StableDiffusion};
//! use kiln_models::Device;
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut pipeline = StableDiffusion::from_folder("stable-diffusion-v1-5", Device::Gpu(gpu), Precision::F16)?;
//! let request = Request { prompt: "a lighthouse in a storm".into(), seeds: vec![42], ..Request::default() };
//! let pictures = pipeline.generate_blocking(&request, &mut ())?;
//! std::fs::write("lighthouse.png", pictures[0].to_png()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A folder in diffusers' layout is read: `model_index.json`, and the folders `tokenizer`, `text_encoder`, `unet`, `vae` and
//! `scheduler`; or a checkpoint in one file, by [`StableDiffusion::from_file`]. [`Additions`] go with either. A picture depends on its seed alone and not on the others of its batch, and its noise is PyTorch's, so that a
//! seed means what it means to diffusers with a generator on the CPU for each picture.

mod additions;
mod noise;
mod open;
pub(crate) mod pictures;
mod plan;
mod request;
mod text;

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::Tensor;
use serde_json::Value as Json;

use crate::diffusion::{Checkpoint, Guidance, Mask, Sampler, Sampling, Watch};
use crate::image::Picture;
use crate::latent_codec::LatentCodec;
use crate::prompt::Prompt;
use crate::{Device, Error, Tiling, Tokenizer};

pub use additions::Additions;
pub use request::{Request, Start};

use noise::Noise;
use plan::Plan;
use text::TextEncoder;

/// Stable Diffusion on a device. Compiled graphs are kept for the next pictures of the same size.
pub struct StableDiffusion {
    tokenizer: Tokenizer,
    text: TextEncoder,
    sampler: Sampler,
    codec: LatentCodec,
    scheduler: Json,
    low_memory: bool,
    unfinished: Option<Unfinished>,
}

/// Pictures that were begun.
struct Unfinished {
    request: Request,
    /// What their last finished step left.
    checkpoint: Option<Checkpoint>,
}

impl StableDiffusion {
    /// Whether each part leaves the device as soon as its work is done; not unless it is set. It is loaded again for the
    /// next pictures.
    pub fn set_low_memory(&mut self, low_memory: bool) {
        self.low_memory = low_memory;
    }

    /// Whether pictures are decoded and encoded in tiles; never unless that is set.
    pub fn set_tiling(&mut self, tiling: Tiling) {
        self.codec.set_tiling(tiling);
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        self.codec.device()
    }

    /// How weights and activations are stored.
    pub fn precision(&self) -> Precision {
        self.sampler.precision()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What makes latents of pictures and pictures of latents.
    pub fn codec(&self) -> &LatentCodec {
        &self.codec
    }

    /// Height and width of the pictures that the model was made for.
    pub fn default_size(&self) -> [usize; 2] {
        self.sampler.unet().config().sample_size.map(|side| side * self.codec.model().spatial_factor())
    }

    /// Name of the scheduler that the folder asks for.
    pub fn scheduler(&self) -> &str {
        self.scheduler.get("_class_name").and_then(Json::as_str).unwrap_or_default()
    }

    /// Whether the model sees a mask and the masked picture besides the latents.
    pub fn is_inpainting(&self) -> bool {
        let unet = self.sampler.unet().config();
        unet.in_channels > unet.out_channels
    }

    /// What of the prompts does not fit the text encoder and is cut off, as sentences.
    pub fn warnings(&self, request: &Request) -> Result<Vec<String>, Error> {
        let prompts = self.prompts(request)?;
        Ok(prompts.iter().filter_map(Prompt::cut).map(ToString::to_string).collect())
    }

    /// Refuses what cannot be done, before anything is computed or uploaded.
    pub fn check(&self, request: &Request) -> Result<(), Error> {
        self.prompts(request)?;
        self.plan(request).map(|_| ())
    }

    /// Goes on on another device: a new one where the old one was lost.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        self.sampler.set_device(device.clone())?;
        self.codec.set_device(device.clone())?;
        self.text.set_device(device);
        Ok(())
    }

    /// Makes a picture for each seed, all of them as one batch. `watch` hears of each step. What ends early, cancelled by
    /// `watch` or with a device that is lost, can be gone on with by [`StableDiffusion::resume`].
    pub async fn generate(
        &mut self,
        request: &Request,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Picture>, Error> {
        self.check(request)?;
        self.unfinished = Some(Unfinished { request: request.clone(), checkpoint: None });
        self.resume(watch).await
    }

    /// Goes on with the pictures that were not finished, behind their last finished step. They become what they would have
    /// been. [`Error::Input`] where none are unfinished.
    pub async fn resume(&mut self, watch: &mut dyn Watch) -> Result<Vec<Picture>, Error> {
        let none = || Error::Input("no pictures are unfinished".into());
        let Unfinished { request, checkpoint } = self.unfinished.take().ok_or_else(none)?;
        let mut reached = checkpoint.clone();
        let result = self.make(&request, checkpoint, &mut reached, watch).await;
        if result.is_err() {
            self.unfinished = Some(Unfinished { request, checkpoint: reached });
        }
        result
    }

    /// Pictures from a checkpoint on; `reached` becomes the last one.
    async fn make(
        &mut self,
        request: &Request,
        checkpoint: Option<Checkpoint>,
        reached: &mut Option<Checkpoint>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Picture>, Error> {
        let prompts = self.prompts(request)?;
        let plan = self.plan(request)?;
        let batch = request.seeds.len();
        let [prompt, negative] = &prompts;
        let prompt = self.text.encode(prompt, request.clip_skip).await?;
        let negative = self.text.encode(negative, request.negative_clip_skip()).await?;
        if self.low_memory {
            self.text.release();
        }
        let [prompt, negative] = [repeated(&prompt, batch)?, repeated(&negative, batch)?];
        let mut noise = Noise::new(&request.seeds, plan.latents());
        let begun = self.begin(request, &plan, &mut noise).await?;
        if self.low_memory {
            self.codec.release();
        }
        let guidance = plan.guided.then_some(Guidance {
            negative,
            scale: request.guidance_scale,
            rescale: request.guidance_rescale,
        });
        let sampling = Sampling {
            schedule: &plan.schedule,
            latents: begun.latents,
            prompt,
            guidance,
            condition: begun.condition,
            mask: begun.mask,
            embedded_guidance: Some(request.guidance_scale),
        };
        let latents = self.sampler.resume(&sampling, checkpoint, &mut || noise.draw(), watch).await;
        *reached = self.sampler.checkpoint().cloned();
        let latents = latents?;
        if self.low_memory {
            self.sampler.release();
        }
        let decoded = self.codec.decode(&self.codec.model().scaling().unscale(&latents)?).await?;
        if self.low_memory {
            self.codec.release();
        }
        Picture::from_images(&decoded).map_err(|error| Error::Input(format!("a picture {error}")))
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        [self.text.kept_f32(), self.sampler.kept_f32(), self.codec.kept_f32()].into_iter().flatten().collect()
    }

    /// Bytes on the device of whichever graph used there last holds most, by the planner; nothing on the CPU reference.
    pub fn memory(&self) -> Option<kiln_engine::MemoryReport> {
        self.sampler.memory()
    }

    /// [`StableDiffusion::generate`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn generate_blocking(
        &mut self,
        request: &Request,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Picture>, Error> {
        pollster::block_on(self.generate(request, watch))
    }

    /// [`StableDiffusion::resume`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn resume_blocking(&mut self, watch: &mut dyn Watch) -> Result<Vec<Picture>, Error> {
        pollster::block_on(self.resume(watch))
    }

    /// The prompt and its negative, of as many tokens each.
    fn prompts(&self, request: &Request) -> Result<[Prompt; 2], Error> {
        let Request { prompt, negative_prompt, syntax, .. } = request;
        let prompts = Prompt::pair(prompt, negative_prompt, *syntax, &self.tokenizer)?;
        self.text.check(&prompts, request.clip_skip)?;
        Ok(prompts)
    }

    fn plan(&self, request: &Request) -> Result<Plan, Error> {
        Plan::new(request, &self.scheduler, self.sampler.unet(), self.codec.model())
    }

    /// The latents to begin with, and what goes with them.
    async fn begin(&mut self, request: &Request, plan: &Plan, noise: &mut Noise) -> Result<Begun, Error> {
        let Some(start) = &request.start else {
            let latents = scaled(&noise.draw()?, plan.schedule.initial_sigma)?;
            return Ok(Begun { latents, condition: None, mask: None });
        };
        let picture = pictures::pixels(&start.picture, plan.size)?;
        let mask = start.mask.as_ref().map(|mask| pictures::mask(mask, plan.size));
        // The order of the draws is diffusers'.
        let clean = match plan.sees_picture() {
            true => Some(self.encode(&picture, noise).await?),
            false => None,
        };
        let first = noise.draw()?;
        let latents = match &clean {
            Some(clean) if !plan.from_noise => plan.noised(clean, &first)?,
            _ => scaled(&first, plan.schedule.initial_sigma)?,
        };
        let Some(mask) = mask else { return Ok(Begun { latents, condition: None, mask: None }) };
        let small = mask.latents(plan.latents())?;
        if plan.conditioned {
            let masked = self.encode(&mask.hide(&picture)?, noise).await?;
            let condition = pictures::beside(&small, &masked)?;
            return Ok(Begun { latents, condition: Some(condition), mask: None });
        }
        let clean = clean.ok_or_else(|| Error::Input("there is no picture to keep a part of".into()))?;
        let mask = repeated(&pictures::every_channel(&small, plan.channels)?, noise.batch())?;
        Ok(Begun { latents, condition: None, mask: Some(Mask { clean, noise: first, mask }) })
    }

    /// Latents of a picture for each seed, as the UNet wants them.
    async fn encode(&mut self, picture: &Tensor, noise: &mut Noise) -> Result<Tensor, Error> {
        let dist = self.codec.encode(picture).await?;
        let latents = match dist.logvar() {
            None => repeated(dist.mode(), noise.batch())?,
            Some(_) => dist.repeated(noise.batch())?.sample(&noise.draw()?)?,
        };
        self.codec.model().scaling().scale(&latents)
    }
}

/// What sampling begins with.
struct Begun {
    latents: Tensor,
    condition: Option<Tensor>,
    mask: Option<Mask>,
}

/// A batch of one as a larger batch of the same.
fn repeated(tensor: &Tensor, batch: usize) -> Result<Tensor, Error> {
    let mut shape = tensor.shape().to_vec();
    if let Some(first) = shape.first_mut() {
        *first *= batch;
    }
    Ok(Tensor::f32(shape, tensor.to_f32().repeat(batch)).map_err(kiln_graph::GraphError::from)?)
}

fn scaled(tensor: &Tensor, factor: f64) -> Result<Tensor, Error> {
    let values = tensor.to_f32().iter().map(|value| value * factor as f32).collect();
    Ok(Tensor::f32(tensor.shape().to_vec(), values).map_err(kiln_graph::GraphError::from)?)
}
