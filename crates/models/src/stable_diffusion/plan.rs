//! What a request comes to, and whether it can be done.

use kiln_graph::{GraphError, Tensor};
use serde_json::Value as Json;

use super::Request;
use crate::Error;
use crate::latent_codec::AnyAutoencoder;
use crate::schedulers::{Options, Schedule, Scheduler, SchedulerError, Slot};
use crate::unet::UNet;

/// Longest side of a picture in pixels.
const MAX_SIDE: usize = 8192;

/// Most pictures of a batch.
const MAX_BATCH: usize = 256;

/// A request that can be done.
pub(super) struct Plan {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Pixels along a side of one of the latents.
    factor: usize,
    /// Channels of the latents.
    pub channels: usize,
    pub schedule: Schedule,
    /// Whether negative prompts lead.
    pub guided: bool,
    /// Whether the UNet sees the mask and the masked picture.
    pub conditioned: bool,
    /// Whether it begins with noise alone, though there is a picture.
    pub from_noise: bool,
}

impl Plan {
    pub fn new(
        request: &Request,
        scheduler: &Json,
        unet: &UNet,
        autoencoder: &AnyAutoencoder,
    ) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Input(reason));
        let (config, factor) = (unet.config(), autoencoder.spatial_factor());
        let size = request.size.unwrap_or(config.sample_size.map(|side| side * factor));
        let [height, width] = size;
        if size.iter().any(|&side| side == 0 || side > MAX_SIDE || side % factor != 0) {
            return wrong(format!(
                "a picture of {width} x {height} cannot be made: both have to be multiples of {factor} up to {MAX_SIDE}"
            ));
        }
        let count = request.seeds.len();
        if count == 0 || count > MAX_BATCH {
            return wrong(format!("{count} pictures at once are not 1 to {MAX_BATCH}"));
        }
        let (scale, rescale) = (request.guidance_scale, request.guidance_rescale);
        if !scale.is_finite() {
            return wrong(format!("a guidance of {scale} leads nowhere"));
        }
        if !(0.0..=1.0).contains(&rescale) {
            return wrong(format!("a guidance rescale of {rescale} is not between 0 and 1"));
        }
        if !(0.0..=1.0).contains(&request.eta) {
            return wrong(format!("an eta of {} is not between 0 and 1", request.eta));
        }
        let channels = autoencoder.latent_channels();
        if channels != config.out_channels {
            let out = config.out_channels;
            return wrong(format!(
                "the autoencoder has latents of {channels} channels, and the UNet gives {out}"
            ));
        }
        let masked = request.start.as_ref().is_some_and(|start| start.mask.is_some());
        let conditioned = match config.in_channels - channels {
            0 => false,
            more if more == channels + 1 && masked => true,
            more if more == channels + 1 => {
                return wrong("the model is for inpainting: it wants a picture and a mask".into());
            }
            more => {
                return wrong(format!(
                    "the UNet wants {more} channels besides the latents', for which there is nothing"
                ));
            }
        };
        let (first, from_noise) = match &request.start {
            None => (0, true),
            Some(start) if !(0.0..=1.0).contains(&start.strength) => {
                return wrong(format!("a strength of {} is not between 0 and 1", start.strength));
            }
            // With a mask, all of a schedule begins with noise.
            Some(start) => (skipped(request.steps, start.strength)?, masked && start.strength == 1.0),
        };
        let schedule = schedule(request, scheduler, first)?;
        let guided = scale > 1.0 && config.time.cond.is_none();
        Ok(Self { size, factor, channels, schedule, guided, conditioned, from_noise })
    }

    /// Height, width and channels of a picture's latents.
    pub fn latents(&self) -> [usize; 3] {
        let [height, width] = self.size;
        [height / self.factor, width / self.factor, self.channels]
    }

    /// Whether the given picture's own latents are wanted, and not only those of what a mask leaves of it.
    pub fn sees_picture(&self) -> bool {
        !(self.conditioned && self.from_noise)
    }

    /// Clean latents with as much of the noise as the first step wants.
    pub fn noised(&self, clean: &Tensor, noise: &Tensor) -> Result<Tensor, Error> {
        let first = self.schedule.timesteps.len() - self.schedule.steps.len();
        let none = || Error::Input("the schedule has no step".into());
        let sum = self.schedule.noised.get(first).ok_or_else(none)?;
        let factor =
            |slot: Slot| -> f64 { sum.terms().iter().filter(|term| term.0 == slot).map(|term| term.1).sum() };
        let (signal, spread) = (factor(Slot::Latents) as f32, factor(Slot::Noise) as f32);
        let (values, noises) = (clean.to_f32(), noise.to_f32());
        let values = values.iter().zip(noises.iter()).map(|(v, n)| signal * v + spread * n).collect();
        Ok(Tensor::f32(clean.shape().to_vec(), values).map_err(GraphError::from)?)
    }
}

/// Steps that are left out for a strength.
fn skipped(steps: usize, strength: f64) -> Result<usize, Error> {
    let carried = ((steps as f64 * strength) as usize).min(steps);
    if carried == 0 {
        return Err(Error::Input(format!("of {steps} steps, a strength of {strength} leaves none")));
    }
    Ok(steps - carried)
}

/// The schedule from a step on. A step may be several evaluations.
fn schedule(request: &Request, config: &Json, skipped: usize) -> Result<Schedule, Error> {
    let refused = |error: SchedulerError| Error::Input(error.to_string());
    let mut config = config.clone();
    if let (Some(karras), Some(settings)) = (request.karras, config.as_object_mut()) {
        settings.insert("use_karras_sigmas".into(), karras.into());
    }
    let scheduler = match &request.scheduler {
        Some(class) => Scheduler::from_json_as(class, &config),
        None => Scheduler::from_json(&config),
    };
    let scheduler = scheduler.map_err(refused)?;
    let options = Options { first: skipped * scheduler.order(), eta: request.eta };
    scheduler.set_timesteps_with(request.steps, &options).map_err(refused)
}
