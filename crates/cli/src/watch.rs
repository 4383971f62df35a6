//! What is shown while pictures are made: a progress bar, and previews.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::models::image::Picture;

use crate::output::{Pending, spinner};

/// What is done one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Steps,
    Codes,
}

/// A progress bar, previews, and how fast it goes.
pub struct Bar {
    unit: Unit,
    /// Shows that the first is compiled.
    spinner: ProgressBar,
    bar: ProgressBar,
    previews: Option<Previews>,
    /// When the first was done, and how many since.
    since: Option<(Instant, usize)>,
    /// The first preview that could not be made.
    failed: Option<anyhow::Error>,
}

struct Previews {
    every: usize,
    paths: Vec<PathBuf>,
}

impl Bar {
    /// A bar, and previews of pictures of these names, each after so many steps or rows of codes.
    pub fn new(unit: Unit, every: Option<u32>, names: &[PathBuf]) -> Self {
        let spinner = spinner(match unit {
            Unit::Steps => "the first step compiles",
            Unit::Codes => "the first code compiles",
        });
        let paths = || names.iter().map(|name| preview(name)).collect();
        let previews = every.map(|every| Previews { every: every as usize, paths: paths() });
        Self { unit, spinner, bar: ProgressBar::hidden(), previews, since: None, failed: None }
    }

    /// Whether previews are wanted behind so many steps or rows.
    pub fn shows(&self, done: usize) -> bool {
        self.previews.as_ref().is_some_and(|previews| done.is_multiple_of(previews.every))
    }

    /// One more is done: in all, `done` of `all`.
    pub fn advance(&mut self, done: usize, all: usize) {
        match &mut self.since {
            None => {
                self.since = Some((Instant::now(), 0));
                self.spinner.finish_and_clear();
                self.bar = ProgressBar::new(all as u64);
                let what = match self.unit {
                    Unit::Steps => "steps",
                    Unit::Codes => "codes",
                };
                let style = format!("{what} [{{bar:30}}] {{pos}}/{{len}} {{per_sec}} {{eta}} left");
                if let Ok(style) = ProgressStyle::with_template(&style) {
                    self.bar.set_style(style.progress_chars("=> "));
                }
            }
            Some((_, since)) => *since += 1,
        }
        self.bar.set_position(done as u64);
    }

    /// Writes previews. One that cannot be made ends the pictures, and is told by [`Bar::finish`].
    pub fn show(&mut self, pictures: Result<Vec<Picture>>) -> ControlFlow<()> {
        let paths = self.previews.as_ref().map_or(&[][..], |previews| &previews.paths);
        let written = pictures.and_then(|pictures| {
            pictures.iter().zip(paths).try_for_each(|(picture, path)| write(path, picture))
        });
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// How fast it went behind the first, as the end of a line; nothing where that was all.
    pub fn finish(self) -> Result<String> {
        self.spinner.finish_and_clear();
        self.bar.finish_and_clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some((since, count)) = self.since.filter(|(_, count)| *count > 0) else {
            return Ok(String::new());
        };
        let rate = count as f64 / since.elapsed().as_secs_f64();
        Ok(match self.unit {
            Unit::Steps => format!(", {rate:.2} it/s behind the first step"),
            Unit::Codes => format!(", {rate:.1} codes/s of each behind the first"),
        })
    }
}

/// A file beside a picture that shows how far it is.
pub fn preview(name: &Path) -> PathBuf {
    name.with_extension("preview.png")
}

/// Writes a picture whole or not at all.
fn write(path: &Path, picture: &Picture) -> Result<()> {
    let bytes = picture.to_png().with_context(|| path.display().to_string())?;
    Pending::create(path)?.commit(&bytes)
}
