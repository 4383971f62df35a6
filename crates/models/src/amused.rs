//! aMUSEd: pictures of prompts by masked parallel decoding ("aMUSEd: An Open MUSE Reproduction", Patil et al. 2024,
//! <https://arxiv.org/abs/2401.01808>; "MaskGIT: Masked Generative Image Transformer", Chang et al. 2022,
//! <https://arxiv.org/abs/2202.04200>). A picture is a grid of codes, all of them masked at first; each step draws all that
//! are masked at once, keeps the surest and masks the rest again.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use kiln_engine::{Gpu, GpuOptions, Precision};
//! use kiln_models::Device;
//! use kiln_models::amused::{Amused, Request};
//!
//! let gpu = Gpu::open_blocking(&GpuOptions::default())?;
//! let mut pipeline = Amused::from_folder("amused-256", Device::Gpu(gpu), Precision::F16)?;
//! let request = Request { prompt: "a lighthouse in a storm".into(), seeds: vec![42], ..Request::default() };
//! let pictures = pipeline.generate_blocking(&request, &mut |_| ControlFlow::Continue(()))?;
//! std::fs::write("lighthouse.png", pictures[0].to_png()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reads the folder of diffusers' `AmusedPipeline`: `model_index.json`, and the folders `tokenizer`, `text_encoder`,
//! `transformer`, `vqvae` and `scheduler`. A picture depends on its seed alone and not on the others of its batch. Its random
//! numbers are PyTorch's, drawn in the order of diffusers' scheduler, so that a seed gives the codes that diffusers gives for
//! one picture with a generator on the CPU, but where two codes are all but equally likely.

mod codes;
mod open;
mod plan;
mod request;
mod scheduler;
mod step;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};
use rayon::prelude::*;

use crate::image::Picture;
use crate::prompt::{Prompt, Syntax};
use crate::random::Generator;
use crate::uvit2d::UVit2d;
use crate::{Device, Error, Tokenizer};

pub use codes::CodeDecoder;
pub use request::{Request, Start};
pub use scheduler::{AmusedScheduler, Draw, MaskingSchedule, Timetable};

use codes::CodeEncoder;
use plan::Plan;
use step::Stepper;
use text::TextEncoder;

/// Numbers that describe a picture: width, height, crop and score.
const CONDS: usize = 5;

/// aMUSEd on a device. Compiled graphs are kept for the next pictures of the same size.
pub struct Amused {
    tokenizer: Tokenizer,
    text: TextEncoder,
    stepper: Stepper,
    decoder: CodeDecoder,
    encoder: CodeEncoder,
    scheduler: AmusedScheduler,
}

/// A step that is done.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Its number, from 0.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The codes behind it (i32), `[batch, height, width]`, with the mask's id for those that are yet to come.
    pub codes: &'a Tensor,
    /// The same with what was drawn for those: what would be the picture if it ended here.
    pub predicted: &'a Tensor,
}

/// Who hears of steps. Breaking ends the pictures with [`kiln_engine::Error::Cancelled`].
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

impl Amused {
    /// What computes.
    pub fn device(&self) -> &Device {
        self.decoder.device()
    }

    /// How weights and activations are stored.
    pub fn precision(&self) -> Precision {
        self.decoder.precision()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What draws codes.
    pub fn model(&self) -> &UVit2d {
        self.stepper.model()
    }

    /// What makes pictures of codes.
    pub fn decoder(&self) -> &CodeDecoder {
        &self.decoder
    }

    /// When how many codes are masked.
    pub fn scheduler(&self) -> &AmusedScheduler {
        &self.scheduler
    }

    /// Height and width of the pictures that the model was made for.
    pub fn default_size(&self) -> [usize; 2] {
        [self.stepper.model().config().sample_size * self.decoder.model().spatial_factor(); 2]
    }

    /// What of the prompts does not fit the text encoder and is cut off, as sentences.
    pub fn warnings(&self, request: &Request) -> Result<Vec<String>, Error> {
        Ok(self.prompts(request)?.iter().filter_map(Prompt::cut).map(ToString::to_string).collect())
    }

    /// Refuses what cannot be done, before anything is computed or uploaded.
    pub fn check(&self, request: &Request) -> Result<(), Error> {
        self.text.check(&self.prompts(request)?)?;
        self.plan(request).map(|_| ())
    }

    /// Makes a picture for each seed, all of them as one batch. `watch` hears of each step.
    pub async fn generate(
        &mut self,
        request: &Request,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Picture>, Error> {
        let codes = self.generate_codes(request, watch).await?;
        self.decoder.pictures(&codes).await
    }

    /// The codes (i32) of a picture for each seed, `[batch, height, width]`; see [`Amused::generate`].
    pub async fn generate_codes(
        &mut self,
        request: &Request,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, Error> {
        self.check(request)?;
        let plan = self.plan(request)?;
        let prompts = self.prompts(request)?;
        let prompts = self.text.encode(&prompts, plan.guided).await?;
        let conditions = prompts.conditions(plan.batch, &plan.micro_conds)?;
        let mask = self.scheduler.mask_token_id;
        let mut generators: Vec<Generator> = request.seeds.iter().map(|&seed| Generator::new(seed)).collect();
        let [rows, columns] = plan.codes;
        let tensor = |codes: &[Vec<i32>]| {
            Tensor::i32([codes.len(), rows, columns], codes.concat()).map_err(GraphError::from)
        };
        let mut codes = self.begin(request, &plan, &mut generators).await?;
        for step in plan.first..plan.timetable.steps() {
            let noise = generators.par_iter_mut().zip(&codes).map(|(generator, codes)| {
                let masked: Vec<bool> = codes.iter().map(|&code| code == mask).collect();
                generator.exponentials_of(&masked, plan.codebook)
            });
            let noise: Vec<Vec<f32>> = noise.collect();
            let ids = tensor(&codes)?;
            let drawn = self.stepper.draw(&plan, &conditions, ids, noise).await?;
            let mut predicted = Vec::with_capacity(codes.len());
            for ((codes, drawn), generator) in codes.iter_mut().zip(drawn).zip(&mut generators) {
                let (next, all) = plan.timetable.step(step, codes, &drawn, mask, generator);
                *codes = next;
                predicted.push(all);
            }
            let (codes, predicted) = (tensor(&codes)?, tensor(&predicted)?);
            let steps = plan.timetable.steps();
            let progress = Progress {
                step: step - plan.first,
                steps: steps - plan.first,
                codes: &codes,
                predicted: &predicted,
            };
            if watch(progress).is_break() {
                return Err(kiln_engine::Error::Cancelled.into());
            }
        }
        Ok(tensor(&codes)?)
    }

    /// Goes on on another device: a new one where the old one was lost.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        crate::folder::check_precision(&device, self.precision())?;
        self.text.set_device(device.clone());
        self.stepper.set_device(device.clone());
        self.encoder.set_device(device.clone());
        self.decoder.set_device(device)
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        [self.text.kept_f32(), self.stepper.kept_f32(), self.encoder.kept_f32(), self.decoder.kept_f32()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// [`Amused::generate`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn generate_blocking(
        &mut self,
        request: &Request,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Picture>, Error> {
        pollster::block_on(self.generate(request, watch))
    }

    /// [`Amused::generate_codes`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn generate_codes_blocking(
        &mut self,
        request: &Request,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, Error> {
        pollster::block_on(self.generate_codes(request, watch))
    }

    /// The negative prompt and the prompt.
    fn prompts(&self, request: &Request) -> Result<[Prompt; 2], Error> {
        let [prompt, negative] =
            Prompt::pair(&request.prompt, &request.negative_prompt, Syntax::Plain, &self.tokenizer)?;
        Ok([negative, prompt])
    }

    /// The codes that each picture begins with: masks, and the given picture's where it is to stay.
    async fn begin(
        &mut self,
        request: &Request,
        plan: &Plan,
        generators: &mut [Generator],
    ) -> Result<Vec<Vec<i32>>, Error> {
        let mask = self.scheduler.mask_token_id;
        let Some(start) = &request.start else {
            return Ok(vec![vec![mask; plan.codes.iter().product()]; plan.batch]);
        };
        let codes = self.encoder.codes(&start.picture, plan.size).await?;
        let Some(open) = &plan.open else {
            let noised = |generator| plan.timetable.add_noise(plan.first, &codes, mask, generator);
            return Ok(generators.iter_mut().map(noised).collect());
        };
        let masked = codes.iter().zip(open).map(|(&code, &open)| if open { mask } else { code });
        Ok(vec![masked.collect(); plan.batch])
    }

    fn plan(&self, request: &Request) -> Result<Plan, Error> {
        Plan::new(request, &self.scheduler, self.stepper.model(), self.decoder.model())
    }
}
