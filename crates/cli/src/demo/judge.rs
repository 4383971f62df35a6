//! Whether a picture of coloured digits shows what its prompt asks for, as a detector sees it.
//!
//! Prompts are those of the bundled model: `a red 3`, or two such things, the first of them `left of`, `right of`, `above` or
//! `below` the other. It is judged as `examples/models/scenes-ldm/judge.py` judges.

use kiln::models::image::Picture;
use kiln::models::suppress::nms;
use kiln::models::{Detection, Detector, Error};

use super::things::{DIGITS, Thing, ink, thing};

/// Least probability of a digit that counts as there.
const THRESHOLD: f32 = 0.5;
/// A box that overlaps a surer one by more is the same digit, found twice.
const OVERLAP: f32 = 0.5;

/// How a prompt names where the first of two things is: the axis along which they lie, 0 across and 1 down, and whether the first
/// comes first there.
const RELATIONS: [(&str, usize, bool); 4] =
    [(" left of ", 0, true), (" right of ", 0, false), (" above ", 1, true), (" below ", 1, false)];

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
