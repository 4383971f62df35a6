//! Pictures cut into segments: what they are called, and how they are drawn.

use kiln::models::image::Picture;
use kiln::models::{Detector, Segmentation};

use super::annotate::{color, label, readable, title};
use crate::canvas::Canvas;
use crate::output::say;

/// How much of a segment's pixels is its colour.
const TINT: f32 = 0.55;

/// Lists the segments.
pub fn print(found: &Segmentation, detector: &Detector) {
    for (i, segment) in found.segments.iter().enumerate() {
        let share = segment.area as f64 / found.ids.len().max(1) as f64;
        let name = detector.label(segment.label);
        say!(
            "  {:5.1} %  {name}  segment {}, {:.1} % of the picture",
            segment.score * 100.0,
            i + 1,
            share * 100.0
        );
    }
    if found.segments.is_empty() {
        say!("  no segment");
    }
}

/// The picture with every segment in its class's colour, a line around it, and its class's name.
pub fn painted(picture: &Picture, found: &Segmentation, detector: &Detector) -> Picture {
    let shown = readable(picture);
    let mut canvas = Canvas::of(&shown);
    // The number at a pixel of what is shown.
    let at = |x: usize, y: usize| {
        let (column, row) = (x * found.width / shown.width, y * found.height / shown.height);
        found.ids.get(row * found.width + column).copied().unwrap_or(0)
    };
    // Of each segment, the sums of columns and rows, and the number of pixels.
    let mut sums = vec![[0_usize; 3]; found.segments.len() + 1];
    for y in 0..shown.height {
        for x in 0..shown.width {
            let id = at(x, y);
            let Some(segment) = (id as usize).checked_sub(1).and_then(|i| found.segments.get(i)) else {
                continue;
            };
            let [columns, rows, count] = &mut sums[id as usize];
            (*columns, *rows, *count) = (*columns + x, *rows + y, *count + 1);
            let edge = (x > 0 && at(x - 1, y) != id) || (y > 0 && at(x, y - 1) != id);
            let own = &shown.rgb[(y * shown.width + x) * 3..][..3];
            let mut mixed = [255; 3];
            for ((mixed, &own), tint) in mixed.iter_mut().zip(own).zip(color(segment.label)) {
                *mixed = (f32::from(own) * (1.0 - TINT) + f32::from(tint) * TINT) as u8;
            }
            canvas.fill([x, y, x + 1, y + 1], if edge { [255; 3] } else { mixed });
        }
    }
    for (segment, [columns, rows, count]) in found.segments.iter().zip(&sums[1..]) {
        let middle = [columns / (*count).max(1), rows / (*count).max(1)];
        label(&mut canvas, &title(detector, segment.label, segment.score), middle, color(segment.label));
    }
    canvas.finish()
}
