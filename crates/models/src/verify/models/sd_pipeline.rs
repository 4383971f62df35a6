//! Stable Diffusion's pipeline of diffusers: the samplers whose configurations lie in `schedulers/`, each from the same noise
//! to latents.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use kiln_graph::{DType, Graph, GraphError, Tensor};
use serde_json::Value as Json;

use super::{Computed, Family, channels_second};
use crate::clip_text::{self, ClipText};
use crate::diffusion::{Guidance, Progress, Sampler, Sampling, Watch};
use crate::schedulers::{Schedule, Scheduler, SchedulerError};
use crate::unet::{self, UNet};
use crate::verify::{ModelRun, VerifyError};
use crate::weights::{self, Files, Part, SharedWeights};
use crate::{Error, LatentCodec, Runner, Taps, folder};

pub(super) const FAMILY: Family = Family {
    matches: |name| name == "StableDiffusionPipeline",
    nmse: [1e-8, 1e-3],
    equal: 1.0,
    // Each step amplifies the rounding of those before it.
    reported: |name| name.contains(".latents_") || name.ends_with(".image"),
    run,
};

/// What the reference implementation does where a folder does not say how it was led.
const GUIDANCE_SCALE: f64 = 7.5;
const STEPS: usize = 4;

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let mut pipeline = Pipeline::open(run)?;
        let prompts = pipeline.prompts().await?;
        let mut outputs = HashMap::from([("mid.prompt_embeds".to_string(), prompts.clone())]);
        let names = run.expected.keys().filter_map(|name| Some(name.split_once('.')?.0));
        let layers = run.layers.iter().filter_map(|name| Some(name.split_once('.')?.0));
        let names: BTreeSet<&str> = names.chain(layers).collect();
        for name in names {
            let scheduler = pipeline.scheduler(name)?;
            outputs.extend(tables(run, name, &scheduler, pipeline.steps)?);
            outputs.extend(pipeline.sampled(name, &scheduler, &prompts).await?);
        }
        Ok(outputs)
    })
}

/// The models of a folder and how they are led.
struct Pipeline<'a> {
    run: &'a ModelRun<'a>,
    text: (ClipText, SharedWeights),
    unet: (UNet, SharedWeights),
    sampler: Sampler,
    codec: LatentCodec,
    noise: Tensor,
    guidance_scale: f32,
    steps: usize,
}

impl<'a> Pipeline<'a> {
    fn open(run: &'a ModelRun<'a>) -> Result<Self, VerifyError> {
        let (config, text) = part(run.files, "text_encoder")?;
        let text = (ClipText::new(clip_text::Config::from_json(&config)?, text.as_ref())?, text);
        let (config, weights) = part(run.files, "unet")?;
        let unet = UNet::new(unet::Config::from_json(&config)?, weights.as_ref())?;
        let sampler = Sampler::new(run.device(), unet.clone(), weights.clone(), run.precision())?;
        let (config, weights_of_vae) = part(run.files, "vae")?;
        let codec = LatentCodec::new(&config, weights_of_vae, run.device(), run.precision())?;
        let manifest = folder::read_json(run.files, "manifest.json")?.unwrap_or(Json::Null);
        let guidance_scale = manifest.get("guidance_scale").and_then(Json::as_f64).unwrap_or(GUIDANCE_SCALE);
        let steps = manifest.get("steps").and_then(Json::as_u64).map_or(STEPS, |steps| steps as usize);
        let noise = run.image("noise")?;
        let (unet, guidance_scale) = ((unet, weights), guidance_scale as f32);
        Ok(Self { run, text, unet, sampler, codec, noise, guidance_scale, steps })
    }

    /// The embeddings of the negative prompts, then of the prompts: `[prompts, tokens, width]`.
    async fn prompts(&self) -> Result<Tensor, VerifyError> {
        let (text, weights) = &self.text;
        let ids = self.run.input("input_ids")?.cast(DType::I32);
        let graph = text.graph(text.prompts(&ids)?, &Taps::none())?;
        self.first(graph, weights, &[("input_ids", ids)]).await
    }

    fn scheduler(&self, name: &str) -> Result<Scheduler, VerifyError> {
        let files = self.run.files;
        let file = format!("schedulers/{name}/scheduler_config.json");
        let wrong = |reason: String| VerifyError::File { file: files.display(&file), reason };
        let bytes = files.read(&file, 1 << 20).map_err(|error| wrong(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| wrong("there is no such file".into()))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text".into()))?;
        Scheduler::from_text(&text).map_err(|error| wrong(error.to_string()))
    }

    /// The latents behind every step, those it begins with, the first guided output, and the picture where one is expected.
    async fn sampled(
        &mut self,
        name: &str,
        scheduler: &Scheduler,
        prompts: &Tensor,
    ) -> Result<HashMap<String, Tensor>, VerifyError> {
        let schedule = scheduler.set_timesteps(self.steps).map_err(refused)?;
        let latents = scaled(&self.noise, schedule.initial_sigma as f32)?;
        let [negative, prompt] = halves(prompts)?;
        let mut outputs = HashMap::new();
        let mid = |what: &str| format!("mid.{name}.{what}");
        if self.run.layers.iter().any(|layer| *layer == format!("{name}.noise_pred_0")) {
            let output = self.guided(&schedule, &latents, &negative, &prompt).await?;
            outputs.insert(mid("noise_pred_0"), channels_second(&output)?);
        }
        outputs.insert(mid("latents_init"), channels_second(&latents)?);
        let guidance = Some(Guidance { negative, scale: self.guidance_scale, rescale: 0.0 });
        let sampling = Sampling {
            schedule: &schedule,
            latents,
            prompt,
            guidance,
            condition: None,
            mask: None,
            embedded_guidance: None,
        };
        let mut seen = Seen(Vec::new());
        // The reference draws none.
        let zeros = Tensor::zeros(&self.noise.desc());
        let last = self.sampler.sample(&sampling, &mut || Ok(zeros.clone()), &mut seen).await?;
        if self.run.expected.contains_key(&*format!("{name}.image")) {
            let latents = self.codec.model().scaling().unscale(&last)?;
            let image = self.codec.decode(&latents).await?;
            // Pixels from 0 to 1.
            let pixels = image.to_f32().iter().map(|value| (value / 2.0 + 0.5).clamp(0.0, 1.0)).collect();
            let image = Tensor::f32(image.shape().to_vec(), pixels)?;
            outputs.insert(format!("{name}.image"), channels_second(&image)?);
        }
        for (step, latents) in seen.0.iter().enumerate() {
            outputs.insert(format!("{name}.latents_{step}"), channels_second(latents)?);
        }
        Ok(outputs)
    }

    /// What the UNet makes of the first step's latents, guided.
    async fn guided(
        &self,
        schedule: &Schedule,
        latents: &Tensor,
        negative: &Tensor,
        prompt: &Tensor,
    ) -> Result<Tensor, VerifyError> {
        let (unet, weights) = &self.unet;
        let step = schedule.steps.first().ok_or_else(|| Error::Input("there is no step".into()))?;
        let sample = scaled(latents, step.input_scale as f32)?;
        let (&[batch, height, width, _], &[_, tokens, _]) = (sample.shape(), prompt.shape()) else {
            return Err(Error::Input("latents or prompts have another number of axes".into()).into());
        };
        let mut answers = Vec::new();
        for prompt in [negative, prompt] {
            let shape = unet::Shape { batch, size: [height, width], tokens };
            let graph = unet.graph(shape, &Taps::none())?;
            let timestep = Tensor::f32([batch], vec![step.timestep as f32; batch])?;
            let inputs = [
                ("sample", sample.clone()),
                ("timestep", timestep),
                ("encoder_hidden_states", prompt.clone()),
            ];
            answers.push(self.first(graph, weights, &inputs).await?.to_f32().into_owned());
        }
        let mixed = match &answers[..] {
            [negative, positive] => {
                let pairs = negative.iter().zip(positive);
                pairs.map(|(n, p)| n + self.guidance_scale * (p - n)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Tensor::f32(sample.shape().to_vec(), mixed)?)
    }

    /// A graph's first output.
    async fn first(
        &self,
        graph: Graph,
        weights: &SharedWeights,
        inputs: &[(&str, Tensor)],
    ) -> Result<Tensor, VerifyError> {
        let keep_f32 = self.unet.0.keep_f32(&graph);
        let (device, precision) = (self.run.device(), self.run.precision());
        let mut runner =
            Runner::new(&device, &graph, weights.clone(), precision, keep_f32, &mut |_, _| {}).await?;
        let first = runner.run(inputs).await?.into_iter().next();
        Ok(first.ok_or_else(|| Error::Input("the model gives nothing".into()))?)
    }
}

/// Timesteps and noise levels, of the steps that are taken and of the tables that are expected: those of 20 steps are
/// `NAME.table20.timesteps`.
fn tables(
    run: &ModelRun,
    name: &str,
    scheduler: &Scheduler,
    steps: usize,
) -> Result<HashMap<String, Tensor>, VerifyError> {
    let mut outputs = HashMap::new();
    for expected in run.expected.keys() {
        let Some(rest) = expected.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        let (steps, what) = match rest.strip_prefix("table").and_then(|rest| rest.split_once('.')) {
            Some((number, what)) => (number.parse().unwrap_or(steps), what),
            None => (steps, rest),
        };
        if !["timesteps", "sigmas"].contains(&what) {
            continue;
        }
        let schedule = scheduler.set_timesteps(steps).map_err(refused)?;
        let values = if what == "sigmas" { schedule.sigmas } else { schedule.timesteps };
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        outputs.insert((*expected).to_string(), Tensor::f32([values.len()], values)?);
    }
    Ok(outputs)
}

fn part(files: &Arc<dyn Files>, name: &str) -> Result<(Json, SharedWeights), VerifyError> {
    let own: Arc<dyn Files> = Arc::new(Part::new(files.clone(), name));
    Ok((folder::config(&own)?, weights::open_part(files, name)?))
}

fn refused(error: SchedulerError) -> VerifyError {
    VerifyError::Model(Error::Input(error.to_string()))
}

fn scaled(tensor: &Tensor, factor: f32) -> Result<Tensor, VerifyError> {
    let values = tensor.to_f32().iter().map(|value| value * factor).collect();
    Ok(Tensor::f32(tensor.shape().to_vec(), values)?)
}

/// The first half of a batch and the second.
fn halves(batch: &Tensor) -> Result<[Tensor; 2], VerifyError> {
    let mut shape = batch.shape().to_vec();
    if let Some(first) = shape.first_mut() {
        *first /= 2;
    }
    let len: usize = shape.iter().product();
    let half =
        |start: usize| batch.pick(shape.clone(), (start..start + len).map(Some)).map_err(GraphError::from);
    Ok([half(0)?, half(len)?])
}

/// Keeps the latents of every step.
struct Seen(Vec<Tensor>);

impl Watch for Seen {
    fn wants(&self, _: usize) -> bool {
        true
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        self.0.extend(progress.latents);
        ControlFlow::Continue(())
    }
}
