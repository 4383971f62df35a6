//! Pictures side by side with a line of text under each.

use kiln::models::image::{Filter, Picture, resize};

use crate::canvas::{Canvas, GLYPH};

const MARGIN: usize = 12;
const PAPER: [u8; 3] = [250, 250, 247];
const INK: [u8; 3] = [30, 30, 34];

/// A picture with what stands under it.
pub struct Tile {
    pub picture: Picture,
    pub lines: Vec<String>,
}

/// The picture enlarged or reduced so that it fits a square of `side` pixels; small ones keep their pixels visible.
pub fn fit(picture: &Picture, side: usize) -> Picture {
    let longest = picture.width.max(picture.height).max(1);
    let scaled = |extent: usize| (extent * side).div_ceil(longest).max(1);
    let filter = if longest < side { Filter::Nearest } else { Filter::Bilinear };
    resize(picture, scaled(picture.width), scaled(picture.height), filter)
}

/// Tiles in rows of `columns`, each picture in a square of `side` pixels.
pub fn gallery(tiles: &[Tile], columns: usize, side: usize) -> Picture {
    let columns = columns.clamp(1, tiles.len().max(1));
    let lines = tiles.iter().map(|tile| tile.lines.len()).max().unwrap_or(0);
    let scale = (side / 160).max(1);
    let line = (GLYPH + 3) * scale;
    let cell = (side + MARGIN, side + lines * line + MARGIN);
    let rows = tiles.len().div_ceil(columns);
    let mut canvas = Canvas::new(columns * cell.0 + MARGIN, rows * cell.1 + MARGIN, PAPER);
    for (i, tile) in tiles.iter().enumerate() {
        let (x, y) = (MARGIN + i % columns * cell.0, MARGIN + i / columns * cell.1);
        let picture = fit(&tile.picture, side);
        canvas.paste(&picture, x + (side - picture.width) / 2, y + (side - picture.height) / 2);
        for (j, text) in tile.lines.iter().enumerate() {
            let most = side / (GLYPH * scale);
            let shown: String = text.chars().take(most).collect();
            let indent = (side - shown.chars().count() * GLYPH * scale) / 2;
            canvas.text(&shown, x + indent, y + side + 3 * scale + j * line, scale, INK);
        }
    }
    canvas.finish()
}

/// Pictures one below the other, each in the middle.
pub fn stack(pages: &[Picture]) -> Picture {
    let width = pages.iter().map(|page| page.width).max().unwrap_or(0);
    let mut canvas = Canvas::new(width, pages.iter().map(|page| page.height).sum(), PAPER);
    let mut top = 0;
    for page in pages {
        canvas.paste(page, (width - page.width) / 2, top);
        top += page.height;
    }
    canvas.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stand_in_rows_and_text_leaves_ink() {
        let tile = |text: &str| Tile {
            picture: Picture::new(2, 1, vec![9; 6]).unwrap(),
            lines: vec![text.to_string()],
        };
        let page = gallery(&[tile("one"), tile("\u{4e09}"), tile("a label that is far too long")], 2, 96);
        assert_eq!((page.width, page.height), (2 * 108 + 12, 2 * 119 + 12));
        let ink = page.rgb.chunks_exact(3).filter(|&pixel| pixel == INK).count();
        assert!(ink > 100);
        let both = stack(&[page.clone(), gallery(&[tile("one")], 1, 96)]);
        assert_eq!((both.width, both.height), (page.width, page.height + 119 + 12));
        assert_eq!(both.rgb[..page.rgb.len()], page.rgb);
    }
}
