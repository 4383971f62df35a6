//! Pictures with boxes and labels.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use kiln::models::Detector;
use kiln::models::image::Picture;

use super::above;
use super::report::Found;
use crate::canvas::{Canvas, GLYPH};
use crate::gallery::fit;
use crate::output::Pending;

/// Pixels of the shorter side below which a picture is enlarged, so that labels can be read.
const SIDE: usize = 480;

/// Where each picture's annotated copy goes: a PNG of its name in the folder, numbered where two have one name. No
/// picture is written over.
pub fn targets(folder: &Path, pictures: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let originals: HashSet<PathBuf> = pictures.iter().map(|path| whole(path)).collect();
    let mut taken = HashSet::new();
    let mut targets = Vec::new();
    for picture in pictures {
        let stem = picture.file_stem().unwrap_or_default().to_string_lossy();
        let names = (1..).map(|i| if i == 1 { format!("{stem}.png") } else { format!("{stem}-{i}.png") });
        let free = names.map(|name| folder.join(name)).find(|path| taken.insert(path.clone()));
        let Some(target) = free else { bail!("{} has no free name", picture.display()) };
        if originals.contains(&whole(&target)) {
            bail!("--annotate would write over {}: name another folder", target.display());
        }
        targets.push(target);
    }
    Ok(targets)
}

/// Writes `found`, annotated.
pub fn write(target: &Path, found: &Found, detector: &Detector) -> Result<()> {
    let file = Pending::create(target)?;
    file.commit(&annotated(found, detector).to_png()?)
}

/// The picture with a frame and a label for each object, each class in its own colour.
pub fn annotated(found: &Found, detector: &Detector) -> Picture {
    let Found { picture, all, threshold, .. } = found;
    let shorter = picture.width.min(picture.height).max(1);
    let shown = if shorter < SIDE {
        let longest = picture.width.max(picture.height);
        fit(picture, longest * SIDE.div_ceil(shorter).min(4096 / longest.max(1)).max(1))
    } else {
        (*picture).clone()
    };
    let scale = shown.width as f32 / picture.width.max(1) as f32;
    let unit = (shown.width.min(shown.height) / 320).max(1);
    let mut canvas = Canvas::of(&shown);
    // The surest last, on top.
    let objects: Vec<_> = above(all, *threshold).collect();
    for object in objects.into_iter().rev() {
        let color = color(object.label);
        let inside = |value: f32, limit: usize| (value * scale).round().clamp(0.0, limit as f32) as usize;
        let [left, top, right, bottom] = object.corners;
        let (left, right) = (inside(left, shown.width), inside(right, shown.width));
        let (top, bottom) = (inside(top, shown.height), inside(bottom, shown.height));
        // A box without area still shows where it is.
        let (right, bottom) = (right.max(left + 1), bottom.max(top + 1));
        canvas.frame([left, top, right, bottom], 2 * unit, color);
        let text = format!("{} {:.0}%", detector.label(object.label), object.score * 100.0);
        let (width, height) = (text.chars().count() * GLYPH * unit + 2 * unit, (GLYPH + 2) * unit);
        // Above the box where there is room, else within it.
        let y = if top >= height { top - height } else { top };
        let x = left.min(shown.width.saturating_sub(width));
        canvas.fill([x, y, x + width, y + height], color);
        canvas.text(&text, x + unit, y + unit, unit, ink(color));
    }
    canvas.finish()
}

/// A colour of its own for each class: hues a golden angle apart.
fn color(label: usize) -> [u8; 3] {
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
    fn copies_get_names_of_their_own_and_spare_the_originals() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("a.png");
        std::fs::write(&picture, b"x").unwrap();
        let out = folder.path().join("out");
        let pictures = [picture, PathBuf::from("b/a.jpg"), PathBuf::from("c.png")];
        let names = targets(&out, &pictures).unwrap();
        assert_eq!(names, ["a.png", "a-2.png", "c.png"].map(|name| out.join(name)));
        let error = targets(folder.path(), &pictures).unwrap_err().to_string();
        assert!(error.contains("write over"), "{error}");
    }

    #[test]
    fn neighbouring_classes_have_colours_far_apart() {
        for label in 0..90 {
            let distance: i32 =
                (0..3).map(|i| (i32::from(color(label)[i]) - i32::from(color(label + 1)[i])).abs()).sum();
            assert!(distance > 100, "{label}: {:?} {:?}", color(label), color(label + 1));
        }
    }
}
