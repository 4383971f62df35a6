//! Pictures with boxes and labels.

use std::path::Path;

use anyhow::Result;
use kiln::models::Detector;
use kiln::models::image::Picture;

use super::above;
use super::report::Found;
use crate::canvas::{Canvas, GLYPH};
use crate::gallery::fit;
use crate::output::Pending;

/// Pixels of the shorter side below which a picture is enlarged, so that labels can be read.
const SIDE: usize = 480;

/// Writes a picture.
pub fn write(target: &Path, picture: &Picture) -> Result<()> {
    Pending::create(target)?.commit(&picture.to_png()?)
}

/// The picture, enlarged where it is too small for labels.
pub fn readable(picture: &Picture) -> Picture {
    let shorter = picture.width.min(picture.height).max(1);
    if shorter >= SIDE {
        return picture.clone();
    }
    let longest = picture.width.max(picture.height);
    fit(picture, longest * SIDE.div_ceil(shorter).min(4096 / longest.max(1)).max(1))
}

/// Text on a ground of `color`, above a place where there is room, else below it, and inside the canvas.
pub fn label(canvas: &mut Canvas, text: &str, [left, top]: [usize; 2], color: [u8; 3]) {
    let unit = unit(canvas);
    let (width, height) = (text.chars().count() * GLYPH * unit + 2 * unit, (GLYPH + 2) * unit);
    let y = if top >= height { top - height } else { top };
    let x = left.min(canvas.width.saturating_sub(width));
    canvas.fill([x, y, x + width, y + height], color);
    canvas.text(text, x + unit, y + unit, unit, ink(color));
}

/// Pixels of a thin line.
fn unit(canvas: &Canvas) -> usize {
    (canvas.width.min(canvas.height) / 240).max(1)
}

/// Draws a box of `corners` in pixels of a picture that is shown `scale` times as large; gives its left and top.
pub fn frame(canvas: &mut Canvas, corners: [f32; 4], scale: f32, color: [u8; 3]) -> [usize; 2] {
    let inside = |value: f32, limit: usize| (value * scale).round().clamp(0.0, limit as f32) as usize;
    let [left, top, right, bottom] = corners;
    let (left, right) = (inside(left, canvas.width), inside(right, canvas.width));
    let (top, bottom) = (inside(top, canvas.height), inside(bottom, canvas.height));
    // A box without area still shows where it is.
    let thick = 2 * unit(canvas);
    canvas.frame([left, top, right.max(left + 1), bottom.max(top + 1)], thick, color);
    [left, top]
}

/// The picture with a frame and a label for each object, each class in its own colour.
pub fn annotated(found: &Found, detector: &Detector) -> Picture {
    let Found { picture, all, threshold, .. } = found;
    let shown = readable(picture);
    let scale = shown.width as f32 / picture.width.max(1) as f32;
    let mut canvas = Canvas::of(&shown);
    // The surest last, on top.
    let objects: Vec<_> = above(all, *threshold).collect();
    for object in objects.into_iter().rev() {
        let color = color(object.label);
        let corner = frame(&mut canvas, object.corners, scale, color);
        label(&mut canvas, &title(detector, object.label, object.score), corner, color);
    }
    canvas.finish()
}

/// A class and how sure it is.
pub fn title(detector: &Detector, label: usize, score: f32) -> String {
    format!("{} {:.0}%", detector.label(label), score * 100.0)
}

/// A colour of its own for each class: hues a golden angle apart.
pub fn color(label: usize) -> [u8; 3] {
    let hue = (label as f64 * 0.618_033_988_749_895).fract() * 6.0;
    let value = |shift: f64| {
        let k = (shift + hue).rem_euclid(6.0);
        let level = 1.0 - 0.85 * k.min(4.0 - k).clamp(0.0, 1.0);
        (level * 235.0) as u8
    };
    [value(5.0), value(3.0), value(1.0)]
}

/// Black or white, whichever is easier to read on a colour.
fn ink([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let luma = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if luma > 130.0 { [0; 3] } else { [255; 3] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_classes_have_colours_far_apart() {
        for label in 0..90 {
            let distance: i32 =
                (0..3).map(|i| (i32::from(color(label)[i]) - i32::from(color(label + 1)[i])).abs()).sum();
            assert!(distance > 100, "{label}: {:?} {:?}", color(label), color(label + 1));
        }
    }
}
