//! What is shown while pictures are made.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::graph::Tensor;
use kiln::models::diffusion::{Progress, Watch};
use kiln::models::image::Picture;
use kiln::models::{Device, LatentCodec};

use crate::output::Pending;

/// A progress bar, and previews.
pub struct Bar {
    bar: ProgressBar,
    /// Where previews go, and what decodes them.
    previews: Option<Previews>,
    /// When the first step was done, and how many since.
    since: Option<(Instant, usize)>,
    /// The first preview that could not be written.
    failed: Option<anyhow::Error>,
}

struct Previews {
    every: usize,
    codec: LatentCodec,
    paths: Vec<PathBuf>,
}

impl Bar {
    /// A bar, and previews of pictures of these names by `codec`, each after so many steps.
    pub fn new(previews: Option<(u32, LatentCodec)>, names: &[PathBuf]) -> Self {
        let previews = previews.map(|(every, codec)| {
            let paths = names.iter().map(|name| name.with_extension("preview.png")).collect();
            Previews { every: every as usize, codec, paths }
        });
        Self { bar: ProgressBar::hidden(), previews, since: None, failed: None }
    }

    /// The bar as what hears of steps, while a spinner shows that the first is compiled.
    pub fn under<'a>(&'a mut self, spinner: &'a ProgressBar) -> Watching<'a> {
        Watching { bar: self, spinner }
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<()> {
        match &mut self.previews {
            Some(previews) => Ok(previews.codec.set_device(device)?),
            None => Ok(()),
        }
    }

    /// Steps a second behind the first, where there were any.
    pub fn finish(self) -> Result<Option<f64>> {
        self.bar.finish_and_clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let rate = |(since, steps): (Instant, usize)| {
            (steps > 0).then(|| steps as f64 / since.elapsed().as_secs_f64())
        };
        Ok(self.since.and_then(rate))
    }
}

/// A bar that hears of steps.
pub struct Watching<'a> {
    bar: &'a mut Bar,
    spinner: &'a ProgressBar,
}

impl Watch for Watching<'_> {
    fn wants(&self, step: usize) -> bool {
        self.bar.previews.as_ref().is_some_and(|previews| (step + 1).is_multiple_of(previews.every))
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        let bar = &mut *self.bar;
        match &mut bar.since {
            None => {
                bar.since = Some((Instant::now(), 0));
                self.spinner.finish_and_clear();
                bar.bar = ProgressBar::new(progress.steps as u64);
                if let Ok(style) =
                    ProgressStyle::with_template("steps [{bar:30}] {pos}/{len} {per_sec} {eta} left")
                {
                    bar.bar.set_style(style.progress_chars("=> "));
                }
            }
            Some((_, steps)) => *steps += 1,
        }
        bar.bar.set_position(progress.step as u64 + 1);
        if let (Some(previews), Some(latents)) = (&mut bar.previews, progress.latents)
            && let Err(error) = previews.write(&latents)
        {
            bar.failed = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Previews {
    fn write(&mut self, latents: &Tensor) -> Result<()> {
        let latents = self.codec.model().scaling().unscale(latents)?;
        let images = self.codec.decode_blocking(&latents)?;
        for (picture, path) in Picture::from_images(&images)?.iter().zip(&self.paths) {
            let bytes = picture.to_png().with_context(|| path.display().to_string())?;
            Pending::create(path)?.commit(&bytes)?;
        }
        Ok(())
    }
}
