//! Devices that are lost on the way.

use anyhow::Result;
use kiln::models::Error;
use kiln::models::image::Picture;
use kiln::models::stable_diffusion::{Request, StableDiffusion};

use super::watch::Watching;
use crate::classify::open;
use crate::device::DeviceArgs;

/// How often a new device takes over; a computer that loses more of them has to be looked at.
const MAX_LOSSES: usize = 3;

/// Makes pictures. Where the device is lost, a new one goes on behind the last finished step.
pub fn generate(
    pipeline: &mut StableDiffusion,
    request: &Request,
    watching: &mut Watching,
    device: &DeviceArgs,
) -> Result<Vec<Picture>> {
    let mut pictures = pipeline.generate_blocking(request, watching);
    for _ in 0..MAX_LOSSES {
        let Err(Error::Engine(error)) = &pictures else { break };
        if !error.is_device_lost() {
            break;
        }
        eprintln!("note: {error}; a new device goes on behind the last finished step");
        let device = open(device)?;
        pipeline.set_device(device.clone())?;
        watching.set_device(device)?;
        pictures = pipeline.resume_blocking(watching);
    }
    Ok(pictures?)
}
