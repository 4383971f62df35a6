//! Pictures that are made some at a time, and their files.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use kiln::models::Device;
use kiln::models::image::Picture;

use super::Args;
use crate::made::{counted, pending};
use crate::output::{Pending, say};
use crate::targets::spare;
use crate::watch::preview;

/// What a picture is called.
#[derive(Clone, Debug)]
pub struct Label {
    /// The class that it shows, by its name.
    pub class: Option<String>,
    pub seed: u64,
}

impl Label {
    /// A name for its file: the class and the seed.
    fn file_name(&self) -> String {
        let Self { class, seed } = self;
        let Some(class) = class else { return format!("sample-{seed}.png") };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("{}-{seed}.png", class.chars().map(plain).collect::<String>())
    }

    /// What a line says of it.
    fn line(&self) -> String {
        match &self.class {
            Some(class) => format!("{class}, seed {}", self.seed),
            None => format!("seed {}", self.seed),
        }
    }
}

/// All pictures that are to be made.
pub struct Batches {
    batch: usize,
    labels: Vec<Label>,
    names: Vec<PathBuf>,
    pending: Vec<Pending>,
}

impl Batches {
    /// Opens the pictures' files, none of which is one that is read, and tells where they are computed.
    pub fn open(args: &Args, device: &Device, labels: Vec<Label>) -> Result<Self> {
        let is_file = args.out.extension().is_some();
        if is_file && labels.len() > 1 {
            let (out, count) = (args.out.display(), labels.len());
            bail!("{out} is one file, and {count} pictures are wanted: name a folder");
        }
        let name = |label: &Label| match is_file {
            true => args.out.clone(),
            false => args.out.join(label.file_name()),
        };
        let names: Vec<PathBuf> = labels.iter().map(name).collect();
        let read: Vec<PathBuf> = args.map.iter().chain(&args.complete).cloned().collect();
        for name in &names {
            spare(name, &read)?;
            if args.preview.is_some() {
                spare(&preview(name), &read)?;
            }
        }
        let pending = pending(&names)?;
        say!("on {}", device.describe());
        Ok(Self { batch: args.batch as usize, labels, names, pending })
    }

    /// Makes them batch by batch, and writes each when it is there. `make` is told which ones and their files' names, and
    /// gives them with what is to be said of its speed.
    pub fn make(
        self,
        mut make: impl FnMut(Range<usize>, &[PathBuf]) -> Result<(Vec<Picture>, String)>,
    ) -> Result<()> {
        let mut files = self.pending.into_iter();
        let mut done = 0;
        for (labels, names) in self.labels.chunks(self.batch).zip(self.names.chunks(self.batch)) {
            let begun = Instant::now();
            let (pictures, rate) = make(done..done + labels.len(), names)?;
            done += labels.len();
            for (((picture, file), name), label) in pictures.iter().zip(&mut files).zip(names).zip(labels) {
                file.commit(&picture.to_png()?)?;
                say!("{}: {}", name.display(), label.line());
            }
            say!("{} in {:.1} s{rate}", counted(labels.len()), begun.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_class_and_seed() {
        let name = |class: Option<&str>| Label { class: class.map(String::from), seed: 7 }.file_name();
        assert_eq!(name(Some("golden retriever/x")), "golden-retriever-x-7.png");
        assert_eq!(name(None), "sample-7.png");
    }
}
