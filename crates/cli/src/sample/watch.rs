//! What is shown while codes are written.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use kiln::models::vqgan::{Progress, Watch};

/// A progress bar, and previews.
pub struct Bar {
    bar: ProgressBar,
    /// After how many rows previews are written.
    every: Option<usize>,
    names: Vec<PathBuf>,
    /// When the first code was there, and how many since.
    since: Option<(Instant, usize)>,
    /// The first preview that could not be written.
    failed: Option<anyhow::Error>,
}

impl Bar {
    /// A bar, and previews of pictures of these names, each after so many rows.
    pub fn new(every: Option<u32>, names: &[PathBuf]) -> Self {
        let names = names.iter().map(|name| super::preview(name)).collect();
        let every = every.map(|rows| rows as usize);
        Self { bar: ProgressBar::hidden(), every, names, since: None, failed: None }
    }

    /// The bar as what hears of codes, while a spinner shows that the first is compiled.
    pub fn under<'a>(&'a mut self, spinner: &'a ProgressBar) -> Watching<'a> {
        Watching { bar: self, spinner }
    }

    /// Codes a second behind the first, where there were any.
    pub fn finish(self) -> Result<Option<f64>> {
        self.bar.finish_and_clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let rate = |(since, codes): (Instant, usize)| {
            (codes > 0).then(|| codes as f64 / since.elapsed().as_secs_f64())
        };
        Ok(self.since.and_then(rate))
    }
}

/// A bar that hears of codes.
pub struct Watching<'a> {
    bar: &'a mut Bar,
    spinner: &'a ProgressBar,
}

impl Watch for Watching<'_> {
    fn wants(&self, rows: usize) -> bool {
        self.bar.every.is_some_and(|every| rows.is_multiple_of(every))
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        let bar = &mut *self.bar;
        match &mut bar.since {
            None => {
                bar.since = Some((Instant::now(), 0));
                self.spinner.finish_and_clear();
                bar.bar = ProgressBar::new(progress.codes as u64);
                let style = ProgressStyle::with_template("codes [{bar:30}] {pos}/{len} {per_sec} {eta} left");
                if let Ok(style) = style {
                    bar.bar.set_style(style.progress_chars("=> "));
                }
            }
            Some((_, codes)) => *codes += 1,
        }
        bar.bar.set_position(progress.done as u64);
        for (picture, name) in progress.pictures.iter().flatten().zip(&bar.names) {
            if let Err(error) = super::write(name, picture) {
                bar.failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
