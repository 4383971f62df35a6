//! Cutting a walk into walks whose ends a device binds.

use std::ops::Range;

use super::{Axis, Walk};
use crate::split::{bindable, binding_limit};
use crate::{DeviceLimits, Source};

/// A tensor that a walk reads or writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// What is bound.
    pub source: Source,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// A walk with the bytes of the input and of the output that it needs; everything where there is none. Its first
/// elements count from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub walk: Walk,
    pub from: Option<Range<u64>>,
    pub to: Option<Range<u64>>,
}

/// The first and the last element that a walk touches.
fn span(first: usize, strides: impl Iterator<Item = (usize, isize)>) -> (usize, usize) {
    let (mut low, mut high) = (first as isize, first as isize);
    for (extent, stride) in strides {
        let reach = stride * (extent as isize - 1);
        low += reach.min(0);
        high += reach.max(0);
    }
    (low.max(0) as usize, high.max(0) as usize)
}

/// The walk in pieces; one piece of everything where both tensors, of so many bytes, can be bound whole.
pub(super) fn pieces(walk: &Walk, size: usize, from: u64, to: u64, limits: &DeviceLimits) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if walk.len() > 0 {
        collect(walk.merged(), size, [from, to], limits, &mut pieces);
    }
    pieces
}

fn collect(walk: Walk, size: usize, whole: [u64; 2], limits: &DeviceLimits, pieces: &mut Vec<Piece>) {
    let limit = binding_limit(limits);
    let strides: [fn(&Axis) -> isize; 2] = [|axis| axis.from, |axis| axis.to];
    let firsts = [walk.from, walk.to];
    let mut ranges = [None, None];
    for side in 0..2 {
        if whole[side] <= limit {
            continue;
        }
        let stride = strides[side];
        let (low, high) = span(firsts[side], walk.axes.iter().map(|axis| (axis.extent, stride(axis))));
        let range = bindable((low * size) as u64..((high + 1) * size) as u64, whole[side], limits);
        if range.end - range.start > limit {
            // The axis that reaches farthest is cut, into ranges as long as the others leave room for.
            let reach = |axis: &Axis| stride(axis).unsigned_abs() * (axis.extent - 1);
            let longest = (0..walk.axes.len()).max_by_key(|&i| (reach(&walk.axes[i]), walk.axes.len() - i));
            let Some(longest) = longest.filter(|&i| reach(&walk.axes[i]) > 0) else { continue };
            let axis = walk.axes[longest];
            let others: usize =
                (0..walk.axes.len()).filter(|&i| i != longest).map(|i| reach(&walk.axes[i])).sum();
            let slack = u64::from(limits.offset_alignment.max(16)) + 16;
            let room = (limit.saturating_sub(slack) as usize / size).saturating_sub(others + 1);
            let steps = (room / stride(&axis).unsigned_abs() + 1).clamp(1, axis.extent - 1);
            // Neighbours go on being moved several at a time.
            let steps = if steps >= 16 { steps / 16 * 16 } else { steps };
            for start in (0..axis.extent).step_by(steps) {
                let moved = |first: usize, stride: isize| (first as isize + stride * start as isize) as usize;
                let mut part = walk.clone();
                part.axes[longest].extent = steps.min(axis.extent - start);
                part.from = moved(walk.from, axis.from);
                part.to = moved(walk.to, axis.to);
                collect(part, size, whole, limits, pieces);
            }
            return;
        }
        ranges[side] = Some(range);
    }
    let start = |range: &Option<Range<u64>>| range.as_ref().map_or(0, |range| range.start as usize / size);
    let [from, to] = ranges;
    let walk = Walk { from: walk.from - start(&from), to: walk.to - start(&to), ..walk }.merged();
    pieces.push(Piece { walk, from, to });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(limit: u64) -> DeviceLimits {
        DeviceLimits { max_binding_bytes: limit, ..DeviceLimits::WEBGPU }
    }

    /// The pairs of places that pieces come to, in the whole tensors.
    fn moves(pieces: &[Piece], size: usize) -> Vec<(usize, usize)> {
        let base = |range: &Option<Range<u64>>| range.as_ref().map_or(0, |range| range.start as usize / size);
        let mut all = Vec::new();
        for piece in pieces {
            let to = Walk {
                axes: piece.walk.axes.iter().map(|axis| Axis { from: axis.to, ..*axis }).collect(),
                from: piece.walk.to,
                to: 0,
            };
            let (from_base, to_base) = (base(&piece.from), base(&piece.to));
            let places = piece.walk.sources().flatten().zip(to.sources().flatten());
            all.extend(places.map(|(from, to)| (from + from_base, to + to_base)));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn what_fits_is_one_piece() {
        let walk = Walk::reading(&[16, 16], &[1, 16], 0);
        let found = pieces(&walk, 4, 1024, 1024, &limits(1024));
        assert_eq!(found, [Piece { walk: walk.merged(), from: None, to: None }]);
        assert!(pieces(&Walk::reading(&[0, 4], &[4, 1], 0), 4, 0, 0, &limits(1024)).is_empty());
    }

    #[test]
    fn pieces_move_everything_once_and_keep_to_the_limit() {
        for (walk, from, to) in [
            // A transposition, a slice, a repetition, a walk backwards, one end alone too large.
            (Walk::reading(&[70, 90], &[1, 70], 0), 6300, 6300),
            (Walk::reading(&[20, 33], &[100, 3], 5), 2100, 660),
            (Walk::reading(&[50, 7, 11], &[0, 11, 1], 0), 77, 3850),
            (Walk::reading(&[1000], &[-1], 999), 1000, 1000),
            (Walk { axes: vec![Axis { extent: 10, from: 1, to: 500 }], from: 0, to: 3 }, 10, 5000),
        ] {
            for size in [2, 4] {
                let limits = limits(1024);
                let (from, to) = (from * size, to * size);
                let found = pieces(&walk, size, from as u64, to as u64, &limits);
                let whole = Piece { walk: walk.clone(), from: None, to: None };
                assert_eq!(moves(&found, size), moves(&[whole], size), "{walk:?}");
                for range in found.iter().flat_map(|piece| [&piece.from, &piece.to]).flatten() {
                    assert!(range.end - range.start <= 1024 && range.start % 256 == 0, "{range:?}");
                }
            }
        }
    }
}
