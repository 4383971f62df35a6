//! From masks to a picture cut into segments, as transformers' `post_process_panoptic_segmentation` merges them.

use std::collections::BTreeSet;

/// How masks become segments.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentOptions {
    /// Least probability of a class, from which on a query's mask counts.
    pub threshold: f32,
    /// Least value of a mask, weighed by the class's probability, where it counts as there.
    pub mask_threshold: f32,
    /// Share of a mask that has to be left once every pixel went to the strongest; masks with less are dropped.
    pub overlap: f32,
    /// Classes whose masks are one segment, as a sky is, for panoptic segmentation. None for instances.
    pub fuse: BTreeSet<usize>,
}

impl Default for SegmentOptions {
    /// transformers' defaults.
    fn default() -> Self {
        Self { threshold: 0.5, mask_threshold: 0.5, overlap: 0.8, fuse: BTreeSet::new() }
    }
}

/// A picture cut into segments.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmentation {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The number of each pixel's segment, row by row; 0 where there is none.
    pub ids: Vec<u32>,
    /// The segments, in the order of their numbers, which count from 1.
    pub segments: Vec<Segment>,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Its class.
    pub label: usize,
    /// The class's probability; that of its first mask where several were fused.
    pub score: f32,
    /// How many pixels it has.
    pub area: usize,
}

/// What the queries of one picture say.
#[derive(Clone, Copy, Debug)]
pub struct Masks<'a> {
    /// `[queries, classes + 1]`, the last for "no object".
    pub logits: &'a [f32],
    /// How many classes there are.
    pub classes: usize,
    /// Logits `[queries, rows, columns]` of where each query's object is.
    pub masks: &'a [f32],
    /// Rows and columns of a mask.
    pub size: [usize; 2],
}

/// A mask that counts.
struct Kept {
    label: usize,
    score: f32,
    /// Shares from 0 to 1.
    values: Vec<f32>,
}

impl Masks<'_> {
    /// The masks whose likeliest class is one, and likelier than the threshold.
    fn kept(&self, threshold: f32) -> Vec<Kept> {
        let [rows, columns] = self.size;
        let masks = self.masks.chunks_exact((rows * columns).max(1));
        let mut kept = Vec::new();
        for (logits, mask) in self.logits.chunks_exact(self.classes + 1).zip(masks) {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = logits.iter().map(|v| (v - most).exp()).sum();
            let label = logits.iter().position(|&v| v == most).unwrap_or(self.classes);
            let score = 1.0 / sum;
            if label < self.classes && score > threshold {
                let values = mask.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
                kept.push(Kept { label, score, values });
            }
        }
        kept
    }

    /// The segments of a picture of this size: masks are enlarged bilinearly, and every pixel goes to the strongest.
    ///
    /// transformers gives a segment the number of an earlier one where classes are fused; here numbers stay apart.
    pub fn segments(&self, width: usize, height: usize, options: &SegmentOptions) -> Segmentation {
        let kept = self.kept(options.threshold);
        let [rows, columns] = self.size;
        let (down, across) = (places(rows, height), places(columns, width));
        // Of every mask, the pixels where it is the strongest, and those where it is there at all.
        let (mut own, mut all) = (vec![0_usize; kept.len()], vec![0_usize; kept.len()]);
        let mut strongest = vec![0_usize; width * height];
        for (&y, line) in down.iter().zip(strongest.chunks_exact_mut(width.max(1))) {
            for (&x, pixel) in across.iter().zip(line) {
                let mut best = f32::NEG_INFINITY;
                for (k, mask) in kept.iter().enumerate() {
                    let value = blend(&mask.values, columns, y, x) * mask.score;
                    all[k] += usize::from(value >= options.mask_threshold);
                    if value > best {
                        (best, *pixel) = (value, k);
                    }
                }
                if let Some(count) = own.get_mut(*pixel) {
                    *count += 1;
                }
            }
        }
        let mut segments: Vec<Segment> = Vec::new();
        let mut numbers = Vec::new();
        for (k, mask) in kept.iter().enumerate() {
            let there = own[k] > 0 && all[k] > 0 && own[k] as f32 / all[k] as f32 > options.overlap;
            let fused = segments
                .iter()
                .position(|segment| segment.label == mask.label && options.fuse.contains(&mask.label));
            numbers.push(match fused {
                _ if !there => 0,
                Some(earlier) => {
                    segments[earlier].area += own[k];
                    earlier as u32 + 1
                }
                None => {
                    segments.push(Segment { label: mask.label, score: mask.score, area: own[k] });
                    segments.len() as u32
                }
            });
        }
        let ids = strongest.iter().map(|&k| numbers.get(k).copied().unwrap_or(0)).collect();
        Segmentation { width, height, ids, segments }
    }
}

/// Between which two of `from` places each of `to` places lies, and how near to the second: PyTorch's bilinear
/// interpolation without aligned corners.
fn places(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let (last, scale) = (from.saturating_sub(1), from as f32 / to as f32);
    let place = |i: usize| {
        let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (at as usize).min(last);
        (first, (first + 1).min(last), at - first as f32)
    };
    (0..to).map(place).collect()
}

fn blend(values: &[f32], columns: usize, y: (usize, usize, f32), x: (usize, usize, f32)) -> f32 {
    let at = |row: usize, column: usize| values.get(row * columns + column).copied().unwrap_or(0.0);
    let line = |row: usize| (1.0 - x.2) * at(row, x.0) + x.2 * at(row, x.1);
    (1.0 - y.2) * line(y.0) + y.2 * line(y.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three queries over 1 x 4 places: class 0 on the left, class 1 on the right, and nothing everywhere.
    fn masks() -> ([f32; 9], [f32; 12]) {
        let logits = [9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0];
        let masks = [8.0, 8.0, -8.0, -8.0, -8.0, -8.0, 8.0, 8.0, 9.0, 9.0, 9.0, 9.0];
        (logits, masks)
    }

    fn cut(logits: &[f32], masks: &[f32], options: &SegmentOptions) -> Segmentation {
        Masks { logits, classes: 2, masks, size: [1, 4] }.segments(8, 2, options)
    }

    #[test]
    fn every_pixel_goes_to_the_strongest_object() {
        let (logits, masks) = masks();
        let found = cut(&logits, &masks, &SegmentOptions::default());
        assert_eq!(found.ids, [1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
        let seen: Vec<_> = found.segments.iter().map(|s| (s.label, s.area)).collect();
        assert_eq!(seen, [(0, 8), (1, 8)]);
        assert!(found.segments.iter().all(|s| s.score > 0.99));
    }

    #[test]
    fn covered_masks_are_dropped_and_their_pixels_are_nobodys() {
        let (mut logits, mut masks) = masks();
        // The third query covers everything, less surely: what is left of it is less than it claims.
        logits[6..].copy_from_slice(&[1.2, 0.0, 0.0]);
        masks[8..].fill(8.0);
        masks[..2].fill(-8.0);
        let found = cut(&logits, &masks, &SegmentOptions::default());
        assert_eq!(found.ids, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(found.segments.len(), 1);
    }

    #[test]
    fn masks_of_a_class_may_be_one_segment() {
        let (mut logits, masks) = masks();
        logits[3..6].copy_from_slice(&[9.0, 0.0, 0.0]);
        assert_eq!(cut(&logits, &masks, &SegmentOptions::default()).segments.len(), 2);
        let fused = cut(&logits, &masks, &SegmentOptions { fuse: [0].into(), ..Default::default() });
        assert_eq!((fused.segments.len(), fused.segments[0].area), (1, 16));
        assert!(fused.ids.iter().all(|&id| id == 1));
    }

    #[test]
    fn nothing_found_is_an_answer() {
        let (logits, masks) = masks();
        let none = cut(&logits, &masks, &SegmentOptions { threshold: 1.0, ..Default::default() });
        assert!(none.segments.is_empty() && none.ids == [0; 16]);
    }
}
