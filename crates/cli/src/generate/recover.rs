//! Devices that are lost on the way.

use anyhow::Result;
use indicatif::ProgressBar;
use kiln::models::Error;
use kiln::models::image::Picture;
use kiln::models::stable_diffusion::{Request, StableDiffusion};

use super::watch::Bar;
use crate::classify::open;
use crate::device::DeviceArgs;

/// How often a new device takes over; a computer that loses more of them has to be looked at.
const MAX_LOSSES: usize = 3;

/// Makes pictures. Where the device is lost, a new one goes on behind the last finished step.
pub fn generate(
    pipeline: &mut StableDiffusion,
    request: &Request,
    bar: &mut Bar,
    spinner: &ProgressBar,
    device: &DeviceArgs,
) -> Result<Vec<Picture>> {
    let mut pictures = pipeline.generate_blocking(request, &mut bar.under(spinner));
    for _ in 0..MAX_LOSSES {
        let Err(Error::Engine(error)) = &pictures else { break };
        if !error.is_device_lost() {
            break;
        }
        eprintln!("note: {error}; a new device goes on behind the last finished step");
        let device = open(device)?;
        pipeline.set_device(device.clone())?;
        bar.set_device(device)?;
        pictures = pipeline.resume_blocking(&mut bar.under(spinner));
    }
    Ok(pictures?)
}
