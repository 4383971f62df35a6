//! Whether a picture of coloured digits shows what its prompt asks for, as a detector sees it.
//!
//! Prompts are those of the bundled model: `a red 3`, or two such things, the first of them `left of`, `right of`, `above` or
//! `below` the other. It is judged as `examples/models/scenes-ldm/judge.py` judges.

use kiln::models::image::Picture;
use kiln::models::suppress::nms;
use kiln::models::{Detection, Detector, Error};

/// Least probability of a digit that counts as there.
const THRESHOLD: f32 = 0.5;
/// A box that overlaps a surer one by more is the same digit, found twice.
const OVERLAP: f32 = 0.5;

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
const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// How a prompt names where the first of two things is: the axis along which they lie, 0 across and 1 down, and whether the first
/// comes first there.
const RELATIONS: [(&str, usize, bool); 4] =
    [(" left of ", 0, true), (" right of ", 0, false), (" above ", 1, true), (" below ", 1, false)];

/// A digit in a colour; `None` for a colour that has no name.
pub(super) type Thing = (Option<&'static str>, &'static str);

/// What a prompt asks for.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// Along the axis, or the only one.
    pub(super) things: Vec<Thing>,
    pub(super) axis: usize,
}

/// What of it a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The digits, and no others.
    pub digits: bool,
    /// These, each in its colour and at its side.
    pub all: bool,
}

impl Asked {
    /// Reads a prompt; `None` where it is another's.
    pub fn parse(prompt: &str) -> Option<Self> {
        for (words, axis, first) in RELATIONS {
            if let Some((one, other)) = prompt.split_once(words) {
                let mut things = vec![thing(one)?, thing(other)?];
                if !first {
                    things.reverse();
                }
                return Some(Self { things, axis });
            }
        }
        Some(Self { things: vec![thing(prompt)?], axis: 0 })
    }

    /// Judges a picture by what a detector finds in it.
    pub fn judge(
        &self,
        picture: &Picture,
        found: &[Detection],
        detector: &Detector,
    ) -> Result<Verdict, Error> {
        let sure: Vec<&Detection> = found.iter().filter(|one| one.score > THRESHOLD).collect();
        let boxes: Vec<[f32; 4]> = sure.iter().map(|one| one.corners).collect();
        let scores: Vec<f32> = sure.iter().map(|one| one.score).collect();
        let kept = nms(&boxes, &scores, OVERLAP)?;
        let mut seen: Vec<(Thing, [f32; 2])> = kept
            .iter()
            .filter_map(|&i| sure.get(i))
            .filter_map(|one| {
                let digit = DIGITS.iter().find(|name| **name == detector.label(one.label))?;
                let [left, top, right, bottom] = one.corners;
                Some(((ink(picture, one.corners), *digit), [(left + right) / 2.0, (top + bottom) / 2.0]))
            })
            .collect();
        let (mut asked, mut there): (Vec<&str>, Vec<&str>) =
            (self.things.iter().map(|thing| thing.1).collect(), seen.iter().map(|one| one.0.1).collect());
        asked.sort_unstable();
        there.sort_unstable();
        if asked != there {
            return Ok(Verdict { digits: false, all: false });
        }
        seen.sort_by(|a, b| a.1[self.axis].total_cmp(&b.1[self.axis]));
        let same = seen.iter().map(|one| one.0).eq(self.things.iter().copied());
        let beside = match seen.as_slice() {
            [(_, first), (_, second)] => {
                let apart = [0, 1].map(|axis| (first[axis] - second[axis]).abs());
                apart[self.axis] > apart[1 - self.axis]
            }
            _ => true,
        };
        Ok(Verdict { digits: true, all: same && beside })
    }
}

/// A thing as a prompt names it.
fn thing(words: &str) -> Option<Thing> {
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
