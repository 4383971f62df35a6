//! Originals beside what comes back of them.

use std::path::Path;

use kiln::models::image::Picture;

use super::report::Measured;
use crate::gallery::{Tile, fit, gallery};

/// Pixels of the longer side of a picture.
const SIDE: usize = 320;

/// Pairs of pictures.
#[derive(Default)]
pub struct Sheet {
    tiles: Vec<Tile>,
}

impl Sheet {
    pub fn add(&mut self, path: &Path, picture: &Picture, again: &Picture, measured: &Measured) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.tiles.push(Tile { picture: fit(picture, SIDE), lines: vec![name] });
        let lines = [measured.quality(), vec![format!("1/{:.0} of the pixels", measured.ratio())]].concat();
        self.tiles.push(Tile { picture: fit(again, SIDE), lines });
    }

    pub fn picture(&self) -> Picture {
        // About as wide as high.
        let pairs = (self.tiles.len() / 4).isqrt().max(1);
        gallery(&self.tiles, 2 * pairs, SIDE)
    }
}
