//! Suppression of overlapping boxes in slices, for those who have no graph.
//!
//! Boxes are corners: left, top, right, bottom, in any unit, one for all boxes. Each call runs an op's definition on the
//! CPU; within a graph the same ops run on a GPU: [`Builder::nms`](kiln_graph::Builder::nms),
//! [`Builder::batched_nms`](kiln_graph::Builder::batched_nms), [`Builder::soft_nms`](kiln_graph::Builder::soft_nms) and
//! [`Builder::batched_soft_nms`](kiln_graph::Builder::batched_soft_nms).
//!
//! ```
//! use kiln_models::suppress::{self, Decay};
//!
//! let boxes = [[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [10.0, 10.0, 12.0, 12.0]];
//! let scores = [0.75, 1.0, 0.5];
//! assert_eq!(suppress::nms(&boxes, &scores, 0.5)?, [1, 2]);
//! let soft = suppress::soft_nms(&boxes, &scores, Decay::Linear { threshold: 0.5 }, 0.01)?;
//! assert_eq!(soft, [(1, 1.0), (2, 0.5), (0, 0.1875)]);
//! # Ok::<(), kiln_models::Error>(())
//! ```

use kiln_graph::ops::{Nms, SoftNms};
use kiln_graph::{Op, OpError, Tensor};

use crate::Error;

pub use kiln_graph::ops::Decay;

/// Greedy non-maximum suppression, as torchvision's `nms`: indices of the boxes that stay, in the order of their scores.
/// A box stays where no box that stays and comes before it overlaps it by an IoU of more than `threshold`.
///
/// A score a box. Boxes of equal scores keep their order; a NaN score comes first; a box without area or with a NaN
/// overlaps none. No boxes give no indices; [`Error::Input`] where the lengths differ. The op is
/// [`Nms`].
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], threshold: f32) -> Result<Vec<usize>, Error> {
    let outputs = run(&Nms { threshold, classes: false }, boxes, scores, None)?;
    Ok(indices(&outputs).collect())
}

/// The same within each class, as torchvision's `batched_nms`: boxes of different classes do not suppress each other. A
/// class, any number, a box; [`Error::Input`] where the lengths differ.
pub fn batched_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: &[i32],
    threshold: f32,
) -> Result<Vec<usize>, Error> {
    let outputs = run(&Nms { threshold, classes: true }, boxes, scores, Some(classes))?;
    Ok(indices(&outputs).collect())
}

/// Soft-NMS ("Soft-NMS -- Improving Object Detection With One Line of Code", Bodla et al. 2017,
/// <https://arxiv.org/abs/1704.04503>): indices of the boxes in the order in which they are taken, each with its score
/// at that time. The box of the highest score is taken, the scores of the others fall by their overlap with it, and so
/// on until what is left has less than `min_score`.
///
/// A score, 0 or more, a box. Of equal scores the first is taken first; a box with a NaN score is never taken; a box
/// without area or with a NaN overlaps none. No boxes give none; [`Error::Input`] where the lengths differ or the sigma of
/// a Gaussian decay is not more than 0. The op is [`SoftNms`].
pub fn soft_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    decay: Decay,
    min_score: f32,
) -> Result<Vec<(usize, f32)>, Error> {
    let outputs = run(&SoftNms { decay, min_score, classes: false }, boxes, scores, None)?;
    Ok(scored(&outputs))
}

/// The same within each class: a box that is taken decays the scores of its own class alone. A class, any number, a box;
/// [`Error::Input`] where the lengths differ or the sigma of a Gaussian decay is not more than 0.
pub fn batched_soft_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: &[i32],
    decay: Decay,
    min_score: f32,
) -> Result<Vec<(usize, f32)>, Error> {
    let outputs = run(&SoftNms { decay, min_score, classes: true }, boxes, scores, Some(classes))?;
    Ok(scored(&outputs))
}

/// The op's outputs; none where there are no boxes.
fn run(
    op: &dyn Op,
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: Option<&[i32]>,
) -> Result<Vec<Tensor>, Error> {
    let n = boxes.len();
    if scores.len() != n {
        return Err(Error::Input(format!("{n} boxes want {n} scores, not {}", scores.len())));
    }
    if let Some(classes) = classes.filter(|classes| classes.len() != n) {
        return Err(Error::Input(format!("{n} boxes want {n} classes, not {}", classes.len())));
    }
    if n == 0 {
        return Ok(Vec::new());
    }
    let outputs = || {
        let boxes = Tensor::f32([n, 4], boxes.concat())?;
        let scores = Tensor::f32([n], scores.to_vec())?;
        let classes = classes.map(|classes| Tensor::i32([n], classes.to_vec())).transpose()?;
        let inputs: Vec<&Tensor> = [&boxes, &scores].into_iter().chain(&classes).collect();
        op.reference(&inputs)
    };
    outputs().map_err(|error: OpError| Error::Input(format!("{} {}", error.op, error.reason)))
}

/// Output 0 before its padding.
fn indices(outputs: &[Tensor]) -> impl Iterator<Item = usize> {
    let padded = outputs.first().and_then(Tensor::as_i32).unwrap_or_default();
    padded.iter().map_while(|&i| usize::try_from(i).ok())
}

/// The same with output 1's scores.
fn scored(outputs: &[Tensor]) -> Vec<(usize, f32)> {
    let scores = outputs.get(1).and_then(Tensor::as_f32).unwrap_or_default();
    indices(outputs).zip(scores.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use kiln_graph::random::SplitMix64;

    use super::*;

    const LINEAR: Decay = Decay::Linear { threshold: 0.5 };
    const GAUSSIAN: Decay = Decay::Gaussian { sigma: 0.5 };

    /// A box, one that fills three quarters of it, and one far away.
    const THREE: [[f32; 4]; 3] = [[0., 0., 4., 4.], [0., 0., 4., 3.], [10., 10., 12., 12.]];

    #[test]
    fn classes_keep_to_themselves() {
        let scores = [0.75, 1.0, 0.5];
        assert_eq!(nms(&THREE, &scores, 0.5).unwrap(), [1, 2]);
        assert_eq!(batched_nms(&THREE, &scores, &[7, -7, 7], 0.5).unwrap(), [1, 0, 2]);
        let hard = [(1, 1.0), (2, 0.5), (0, 0.1875)];
        assert_eq!(soft_nms(&THREE, &scores, LINEAR, 0.1).unwrap(), hard);
        assert_eq!(soft_nms(&THREE, &scores, LINEAR, 0.25).unwrap(), hard[..2]);
        let apart = [(1, 1.0), (0, 0.75), (2, 0.5)];
        assert_eq!(batched_soft_nms(&THREE, &scores, &[7, -7, 7], LINEAR, 0.1).unwrap(), apart);
        assert_eq!(batched_soft_nms(&THREE, &scores, &[7, 7, 7], LINEAR, 0.1).unwrap(), hard);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(nms(&[], &[], 0.5).unwrap().is_empty());
        assert!(batched_nms(&[], &[], &[], 0.5).unwrap().is_empty());
        assert!(soft_nms(&[], &[], GAUSSIAN, 0.1).unwrap().is_empty());
        assert!(batched_soft_nms(&[], &[], &[], GAUSSIAN, 0.1).unwrap().is_empty());
    }

    #[test]
    fn lengths_must_agree() {
        let text = |error: Error| match error {
            Error::Input(text) => text,
            other => panic!("{other}"),
        };
        assert_eq!(text(nms(&THREE, &[0.5; 2], 0.5).unwrap_err()), "3 boxes want 3 scores, not 2");
        assert_eq!(text(nms(&[], &[0.5], 0.5).unwrap_err()), "0 boxes want 0 scores, not 1");
        let error = batched_nms(&THREE, &[0.5; 3], &[1; 4], 0.5).unwrap_err();
        assert_eq!(text(error), "3 boxes want 3 classes, not 4");
        assert!(soft_nms(&THREE, &[0.5; 4], LINEAR, 0.1).is_err());
        assert!(batched_soft_nms(&THREE, &[0.5; 3], &[], LINEAR, 0.1).is_err());
        let error = soft_nms(&THREE, &[0.5; 3], Decay::Gaussian { sigma: 0.0 }, 0.1).unwrap_err();
        assert_eq!(text(error), "soft_nms wants a sigma of more than 0");
    }

    #[test]
    fn nan_boxes_and_boxes_without_area_stay() {
        let boxes = [
            [0., 0., 4., 4.],
            [0., f32::NAN, 4., 4.],
            [1., 1., 1., 3.],
            [1., 1., 1., 3.],
            [f32::NAN; 4],
            [0., 0., 4., 4.],
        ];
        let scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
        assert_eq!(nms(&boxes, &scores, 0.5).unwrap(), [0, 1, 2, 3, 4]);
        for decay in [LINEAR, GAUSSIAN] {
            let mut found = soft_nms(&boxes, &scores, decay, 0.0).unwrap();
            let (last, score) = found.pop().unwrap();
            assert_eq!(found, [(0, 0.9), (1, 0.8), (2, 0.7), (3, 0.6), (4, 0.5)]);
            assert!(last == 5 && score < 0.1);
        }
        // A NaN score comes first in the one, as in torchvision, and is never taken in the other.
        let scores = [0.5, 0.25, f32::NAN];
        assert_eq!(nms(&THREE, &scores, 0.8).unwrap(), [2, 0, 1]);
        assert_eq!(soft_nms(&THREE, &scores, LINEAR, 0.0).unwrap(), [(0, 0.5), (1, 0.0625)]);
    }

    #[test]
    fn ten_thousand_boxes() {
        const N: usize = 10_000;
        let sequence = SplitMix64::named("ten thousand boxes");
        let number = |i: usize, k: u64| sequence.unit(5 * i as u64 + k);
        let boxes: Vec<[f32; 4]> = (0..N)
            .map(|i| {
                let (x, y) = (1000.0 * number(i, 0), 1000.0 * number(i, 1));
                [x, y, x + 20.0 + 40.0 * number(i, 2), y + 20.0 + 40.0 * number(i, 3)]
            })
            .collect();
        let scores: Vec<f32> = (0..N).map(|i| number(i, 4)).collect();
        let kept = nms(&boxes, &scores, 0.5).unwrap();
        assert!(kept.len() > 1000 && kept.len() < N);
        assert!(kept.windows(2).all(|pair| scores[pair[0]] >= scores[pair[1]]));
        for decay in [LINEAR, GAUSSIAN] {
            let taken = soft_nms(&boxes, &scores, decay, 0.0).unwrap();
            let mut all: Vec<usize> = taken.iter().map(|&(i, _)| i).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..N), "every box is taken once");
            assert!(taken.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            assert!(taken.iter().all(|&(i, score)| score <= scores[i]));
        }
        // With a class of its own for each box none is suppressed.
        let classes: Vec<i32> = (0..N as i32).collect();
        assert_eq!(batched_nms(&boxes, &scores, &classes, 0.5).unwrap().len(), N);
        let taken = batched_soft_nms(&boxes, &scores, &classes, GAUSSIAN, 0.0).unwrap();
        assert!(taken.len() == N && taken.iter().all(|&(i, score)| score == scores[i]));
    }
}
