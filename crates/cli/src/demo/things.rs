//! Digits in colours, in words and in pictures.

use kiln::models::image::Picture;

/// The colours' names and pixels.
const COLOURS: [(&str, [f32; 3]); 6] = [
    ("red", [235.0, 45.0, 45.0]),
    ("green", [45.0, 205.0, 75.0]),
    ("blue", [60.0, 115.0, 255.0]),
    ("yellow", [245.0, 220.0, 50.0]),
    ("purple", [205.0, 70.0, 235.0]),
    ("white", [240.0, 240.0, 240.0]),
];

/// What the detector calls the digits.
pub(super) const DIGITS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// A digit in a colour; `None` for a colour that has no name.
pub(super) type Thing = (Option<&'static str>, &'static str);

/// A thing as a prompt names it.
pub(super) fn thing(words: &str) -> Option<Thing> {
    let (colour, digit) = words.strip_prefix("a ")?.split_once(' ')?;
    let &(colour, _) = COLOURS.iter().find(|(name, _)| *name == colour)?;
    Some((Some(colour), DIGITS.get(digit.parse::<usize>().ok()?)?))
}

/// The colour whose shade the bright pixels of a box have.
pub(super) fn ink(picture: &Picture, corners: [f32; 4]) -> Option<&'static str> {
    let within = |value: f32, most: usize| (value.round_ties_even().max(0.0) as usize).min(most);
    let [left, top, right, bottom] = corners;
    let (left, right) = (within(left, picture.width), within(right, picture.width));
    let (top, bottom) = (within(top, picture.height), within(bottom, picture.height));
    let rows = (top..bottom).filter_map(|y| {
        let row = y * picture.width;
        picture.rgb.get((row + left) * 3..(row + right.max(left)) * 3)
    });
    let pixels: Vec<[f32; 3]> =
        rows.flat_map(|row| row.chunks_exact(3)).map(|p| [p[0], p[1], p[2]].map(f32::from)).collect();
    let brightness = |pixel: &[f32; 3]| pixel.iter().copied().fold(0.0, f32::max);
    let least = (0.75 * pixels.iter().map(brightness).fold(0.0, f32::max)).max(90.0);
    let bright: Vec<&[f32; 3]> = pixels.iter().filter(|pixel| brightness(pixel) >= least).collect();
    if bright.is_empty() {
        return None;
    }
    let mean = [0, 1, 2].map(|c| bright.iter().map(|pixel| pixel[c]).sum::<f32>() / bright.len() as f32);
    let shade = |colour: [f32; 3]| colour.map(|value| value / brightness(&colour).max(1.0));
    let mean = shade(mean);
    let apart =
        |colour: [f32; 3]| -> f32 { shade(colour).iter().zip(mean).map(|(a, b)| (a - b).abs()).sum() };
    COLOURS.iter().min_by(|a, b| apart(a.1).total_cmp(&apart(b.1))).map(|colour| colour.0)
}
