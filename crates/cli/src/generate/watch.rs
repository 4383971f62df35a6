//! What is shown while pictures are made.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use kiln::graph::Tensor;
use kiln::models::diffusion::{Progress, Watch};
use kiln::models::image::Picture;
use kiln::models::{Device, LatentCodec};

use crate::watch::{Bar, Unit};

/// A progress bar, and what decodes previews.
pub struct Watching {
    bar: Bar,
    codec: Option<LatentCodec>,
}

impl Watching {
    /// A bar, and previews of pictures of these names by `codec`, each after so many steps.
    pub fn new(previews: Option<(u32, LatentCodec)>, names: &[PathBuf]) -> Self {
        let (every, codec) = previews.unzip();
        Self { bar: Bar::new(Unit::Steps, every, names), codec }
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<()> {
        match &mut self.codec {
            Some(codec) => Ok(codec.set_device(device)?),
            None => Ok(()),
        }
    }

    /// How fast it went; see [`Bar::finish`].
    pub fn finish(self) -> Result<String> {
        self.bar.finish()
    }
}

impl Watch for Watching {
    fn wants(&self, step: usize) -> bool {
        self.bar.shows(step + 1)
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        self.bar.advance(progress.step + 1, progress.steps);
        match (&mut self.codec, progress.latents) {
            (Some(codec), Some(latents)) => self.bar.show(decoded(codec, &latents)),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn decoded(codec: &mut LatentCodec, latents: &Tensor) -> Result<Vec<Picture>> {
    let latents = codec.model().scaling().unscale(latents)?;
    Ok(Picture::from_images(&codec.decode_blocking(&latents)?)?)
}
