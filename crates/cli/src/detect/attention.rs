//! Pictures of what each query looked at.

use kiln::models::image::{HeatMap, Picture, overlay};
use kiln::models::{Detection, Detector};

use super::annotate::{color, frame, title};
use crate::canvas::Canvas;
use crate::gallery::{Tile, fit, gallery};

/// Pixels of a tile's side.
const SIDE: usize = 320;

/// A tile for each object above the threshold: its box, and the picture bright where its query looked.
pub fn page(
    picture: &Picture,
    found: &[(Detection, HeatMap)],
    threshold: f32,
    detector: &Detector,
) -> Picture {
    let shown = fit(picture, SIDE);
    let scale = shown.width as f32 / picture.width.max(1) as f32;
    let seen = found.iter().filter(|(object, _)| object.score > threshold);
    let mut tiles: Vec<Tile> = seen
        .map(|(object, map)| {
            let mut canvas = Canvas::of(&overlay(&shown, map));
            frame(&mut canvas, object.corners, scale, color(object.label));
            Tile { picture: canvas.finish(), lines: vec![title(detector, object.label, object.score)] }
        })
        .collect();
    if tiles.is_empty() {
        tiles.push(Tile { picture: shown, lines: vec!["nothing found".into()] });
    }
    gallery(&tiles, tiles.len().isqrt().max(3), SIDE)
}
