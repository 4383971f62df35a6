//! Drawing on pictures: filled rectangles, frames, and text in an 8 x 8 font.

use font8x8::UnicodeFonts;
use kiln::models::image::Picture;

/// Pixels of a glyph's side.
pub const GLYPH: usize = 8;

/// Pixels to draw on. What lies outside is not drawn.
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Canvas {
    /// One colour.
    pub fn new(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { width, height, rgb: color.repeat(width * height) }
    }

    /// A copy of a picture.
    pub fn of(picture: &Picture) -> Self {
        Self { width: picture.width, height: picture.height, rgb: picture.rgb.clone() }
    }

    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.rgb[at..at + 3].copy_from_slice(&color);
        }
    }

    /// Lays a picture on it.
    pub fn paste(&mut self, picture: &Picture, left: usize, top: usize) {
        for (i, pixel) in picture.rgb.chunks_exact(3).enumerate() {
            let (x, y) = (left + i % picture.width, top + i / picture.width);
            self.set(x, y, [pixel[0], pixel[1], pixel[2]]);
        }
    }

    /// Fills the pixels from `left` to before `right` and from `top` to before `bottom`.
    pub fn fill(&mut self, [left, top, right, bottom]: [usize; 4], color: [u8; 3]) {
        for y in top..bottom.min(self.height) {
            for x in left..right.min(self.width) {
                self.set(x, y, color);
            }
        }
    }

    /// Draws the edges of a rectangle, `thick` pixels inwards.
    pub fn frame(&mut self, [left, top, right, bottom]: [usize; 4], thick: usize, color: [u8; 3]) {
        let thick = thick.min((right.saturating_sub(left)).min(bottom.saturating_sub(top)).div_ceil(2));
        self.fill([left, top, right, top + thick], color);
        self.fill([left, bottom - thick, right, bottom], color);
        self.fill([left, top, left + thick, bottom], color);
        self.fill([right - thick, top, right, bottom], color);
    }

    /// Writes a line of text, each of its pixels a square of `scale`; letters that the font lacks are boxes.
    pub fn text(&mut self, text: &str, left: usize, top: usize, scale: usize, color: [u8; 3]) {
        for (i, c) in text.chars().enumerate() {
            let glyph = font8x8::BASIC_FONTS.get(c).or(font8x8::LATIN_FONTS.get(c)).unwrap_or([0x7e; 8]);
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..GLYPH).filter(|column| bits >> column & 1 == 1) {
                    let (x, y) = (left + (i * GLYPH + column) * scale, top + row * scale);
                    self.fill([x, y, x + scale, y + scale], color);
                }
            }
        }
    }

    /// The picture.
    pub fn finish(self) -> Picture {
        Picture { width: self.width, height: self.height, rgb: self.rgb }
    }
}
