//! A heat map over a picture.

use super::{Filter, Picture, resize};

/// How much each part of a picture counted: rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Rows of parts.
    pub rows: usize,
    /// Parts a row.
    pub columns: usize,
    /// Shares, which sum to at most 1.
    pub values: Vec<f64>,
}

/// Lays a map over a picture: dark where the map is least, bright and warm where it is most. An empty or constant map leaves
/// the picture dark.
pub fn overlay(picture: &Picture, map: &HeatMap) -> Picture {
    let HeatMap { rows, columns, values } = map;
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let span = if high > low { high - low } else { 1.0 };
    let grey: Vec<u8> = values.iter().flat_map(|&v| [((v - low) / span * 255.0) as u8; 3]).collect();
    let Ok(small) = Picture::new(*columns, *rows, grey) else { return picture.clone() };
    let heat = resize(&small, picture.width, picture.height, Filter::Bicubic);
    let mix = |(&pixel, warm): (&u8, f64), heat: f64| {
        let value = f64::from(pixel) * (0.25 + 0.45 * heat) + 255.0 * warm * heat * 0.45;
        value.min(255.0) as u8
    };
    let rgb = picture.rgb.chunks_exact(3).zip(heat.rgb.chunks_exact(3)).flat_map(|(pixel, heat)| {
        let heat = f64::from(heat[0]) / 255.0;
        [mix((&pixel[0], 1.0), heat), mix((&pixel[1], 0.55), heat), mix((&pixel[2], 0.1), heat)]
    });
    Picture { width: picture.width, height: picture.height, rgb: rgb.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_place_is_the_brightest() {
        let picture = Picture::new(8, 8, vec![100; 8 * 8 * 3]).unwrap();
        let shown = overlay(&picture, &HeatMap { rows: 2, columns: 2, values: vec![0.0, 0.0, 0.0, 1.0] });
        let brightness = |x: usize, y: usize| shown.rgb[(y * 8 + x) * 3];
        assert!(brightness(7, 7) > 2 * brightness(0, 0));
    }
}
