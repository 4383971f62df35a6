//! The pictures that are asked for, and where they go.

use std::path::PathBuf;

use anyhow::Result;
use kiln::models::image::HeatMap;
use kiln::models::{Detector, Segmentation};

use super::annotate::{annotated, write};
use super::report::Found;
use super::{Args, attention, segments};
use crate::targets::targets;

/// For each kind that is asked for, a file a picture; else none.
pub struct Drawings {
    boxes: Vec<PathBuf>,
    attention: Vec<PathBuf>,
    segments: Vec<PathBuf>,
}

impl Drawings {
    /// Makes the folders, and sees to it that no picture is written over.
    pub fn plan(args: &Args, pictures: &[PathBuf]) -> Result<Self> {
        let targets = |folder: &Option<PathBuf>, ending: &str| match folder {
            Some(folder) => targets(folder, pictures, ending),
            None => Ok(Vec::new()),
        };
        Ok(Self {
            boxes: targets(&args.annotate, ".png")?,
            attention: targets(&args.attention, "-attention.png")?,
            segments: targets(&args.segment, "-segments.png")?,
        })
    }

    /// Writes a picture's, of which `maps` say where each query looked.
    pub fn write(
        &self,
        found: &Found,
        maps: Vec<HeatMap>,
        cut: Option<&Segmentation>,
        detector: &Detector,
    ) -> Result<()> {
        if let Some(target) = self.boxes.get(found.index) {
            write(target, &annotated(found, detector))?;
        }
        if let Some(target) = self.attention.get(found.index) {
            let seen: Vec<_> = found.all.iter().copied().zip(maps).collect();
            write(target, &attention::page(found.picture, &seen, found.threshold, detector))?;
        }
        if let (Some(target), Some(cut)) = (self.segments.get(found.index), cut) {
            write(target, &segments::painted(found.picture, cut, detector))?;
        }
        Ok(())
    }
}
