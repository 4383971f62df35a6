//! Boxes of elements walked with strides: what permutations, slices, broadcasts and concatenations come to.

use kiln_shaders as shaders;

use crate::{Dispatch, Io, Kernel, OpError, Source, Tensor, TensorDesc, Tier, params};

mod cut;

pub(crate) use cut::End;

/// One axis of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Number of steps.
    pub extent: usize,
    /// Elements between neighbours in the input; 0 repeats, less than 0 walks backwards.
    pub from: isize,
    /// Elements between neighbours in the output.
    pub to: isize,
}

/// Which element of the input goes to which of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Axes, outermost first.
    pub axes: Vec<Axis>,
    /// The first element in the input.
    pub from: usize,
    /// The first element in the output.
    pub to: usize,
}

/// Axes that the kernel takes.
const MAX_AXES: usize = 8;

impl Walk {
    /// A walk that fills a contiguous output of this shape, reading with these strides.
    pub fn reading(shape: &[usize], strides: &[isize], from: usize) -> Self {
        let to = crate::strides(shape);
        let axes = shape.iter().zip(strides).zip(to);
        let axes = axes.map(|((&extent, &from), to)| Axis { extent, from, to: to as isize });
        Self { axes: axes.collect(), from, to: 0 }
    }

    /// The same walk by as few axes as possible: at least one.
    pub fn merged(&self) -> Self {
        let mut axes: Vec<Axis> = Vec::new();
        for &axis in self.axes.iter().filter(|axis| axis.extent != 1) {
            let extent = axis.extent as isize;
            match axes.last_mut() {
                Some(last) if last.from == axis.from * extent && last.to == axis.to * extent => {
                    *last = Axis { extent: last.extent * axis.extent, ..axis };
                }
                _ => axes.push(axis),
            }
        }
        if axes.is_empty() {
            axes.push(Axis { extent: 1, from: 1, to: 1 });
        }
        Self { axes, from: self.from, to: self.to }
    }

    /// Whether the kernel can walk it, once merged.
    pub fn fits(&self) -> bool {
        self.merged().axes.len() <= MAX_AXES
    }

    /// The walk from the output back to the input.
    pub fn reversed(&self) -> Self {
        let axes = self.axes.iter().map(|axis| Axis { extent: axis.extent, from: axis.to, to: axis.from });
        Self { axes: axes.collect(), from: self.to, to: self.from }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// The elements' places in the input, in order.
    pub fn sources(&self) -> impl Iterator<Item = Option<usize>> + use<> {
        let mut odometer = Odometer::new(self);
        (0..self.len()).map(move |_| Some(odometer.next()))
    }

    /// The walk in items of `n` neighbouring elements, where it can be.
    fn in_items(&self, n: usize) -> Option<Self> {
        let whole = |stride: isize| stride % n as isize == 0;
        let (last, outer) = self.axes.split_last()?;
        let fits = last.from == 1
            && last.to == 1
            && last.extent.is_multiple_of(n)
            && self.from.is_multiple_of(n)
            && self.to.is_multiple_of(n)
            && outer.iter().all(|axis| whole(axis.from) && whole(axis.to));
        let share = |stride: isize| stride / n as isize;
        let outer = outer.iter().map(|axis| Axis { from: share(axis.from), to: share(axis.to), ..*axis });
        let last = Axis { extent: last.extent / n, ..*last };
        fits.then(|| Self { axes: outer.chain([last]).collect(), from: self.from / n, to: self.to / n })
    }
}

/// A place in the input that is moved on without divisions.
struct Odometer {
    /// Innermost first: extent, stride, index.
    axes: Vec<(usize, isize, usize)>,
    at: isize,
}

impl Odometer {
    fn new(walk: &Walk) -> Self {
        let axes = walk.merged().axes.iter().rev().map(|axis| (axis.extent, axis.from, 0)).collect();
        Self { axes, at: walk.from as isize }
    }

    /// The place, before moving on.
    fn next(&mut self) -> usize {
        let at = self.at;
        for (extent, stride, index) in &mut self.axes {
            *index += 1;
            self.at += *stride;
            if *index < *extent {
                break;
            }
            self.at -= *stride * *extent as isize;
            *index = 0;
        }
        at as usize
    }
}

params! {
    struct StridedParams {
        items: u32, x_start: u32, y_start: u32, pad0: u32, pad1: u32, pad2: u32,
        axis0: [u32; 4], axis1: [u32; 4], axis2: [u32; 4], axis3: [u32; 4],
        axis4: [u32; 4], axis5: [u32; 4], axis6: [u32; 4], axis7: [u32; 4],
    }
}

/// Dispatches that walk from input `input` to output 0: one, or more where a device cannot bind a tensor whole.
pub(super) fn dispatches(walk: &Walk, io: &Io, input: usize, tier: &Tier) -> Vec<Dispatch> {
    let end = |source, desc: &TensorDesc| End { source, bytes: desc.bytes() as u64 };
    let from = end(Source::Input(input), &io.inputs[input]);
    let to = end(Source::Output(0), &io.outputs[0]);
    between(walk, io.outputs[0].dtype.size(), from, to, tier)
}

/// Dispatches that walk from one end to the other, whose elements have `size` bytes.
pub(crate) fn between(walk: &Walk, size: usize, from: End, to: End, tier: &Tier) -> Vec<Dispatch> {
    let pieces = cut::pieces(walk, size, from.bytes, to.bytes, &tier.limits);
    let dispatch = |piece: cut::Piece| {
        let mut dispatch = dispatch(&piece.walk, size, tier).bind("x", from.source).bind("y", to.source);
        for (binding, range) in dispatch.bindings.iter_mut().zip([piece.from, piece.to]) {
            binding.range = range;
        }
        dispatch
    };
    pieces.into_iter().map(dispatch).collect()
}

/// A dispatch of a walk, with nothing bound yet.
fn dispatch(walk: &Walk, size: usize, tier: &Tier) -> Dispatch {
    let wider = [(16, shaders::ITEM_16), (8, shaders::ITEM_8), (4, shaders::ITEM_4)];
    let item = wider.into_iter().find_map(|(bytes, unit)| Some((walk.in_items_of(bytes, size)?, unit)));
    let (walk, unit) = item.unwrap_or((walk.clone(), shaders::ITEM_F16));
    let items = walk.len();
    let axis = |i: usize| {
        let axis = walk.axes.iter().rev().nth(i);
        axis.map_or([1, 0, 0, 0], |axis| [axis.extent as u32, axis.from as u32, axis.to as u32, 0])
    };
    let params = StridedParams {
        items: items as u32,
        x_start: walk.from as u32,
        y_start: walk.to as u32,
        axis0: axis(0),
        axis1: axis(1),
        axis2: axis(2),
        axis3: axis(3),
        axis4: axis(4),
        axis5: axis(5),
        axis6: axis(6),
        axis7: axis(7),
        ..Default::default()
    };
    let workgroup = 64.min(tier.limits.max_invocations);
    let kernel = Kernel::new([shaders::GRID, unit, shaders::STRIDED_COPY])
        .set("WORKGROUP", workgroup)
        .set("AXES", walk.axes.len() as u32);
    Dispatch::new(kernel, params, (items as u64).div_ceil(workgroup.into()))
}

impl Walk {
    /// The walk in items of so many bytes, where elements of `size` bytes fill them.
    fn in_items_of(&self, bytes: usize, size: usize) -> Option<Self> {
        match bytes / size {
            0 => None,
            1 => Some(self.clone()),
            n => self.in_items(n),
        }
    }
}

/// The elements of `x` in a walk's order, bits kept.
pub(super) fn reference(walk: &Walk, x: &Tensor, shape: &[usize]) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![x.pick(shape, walk.sources())?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_go_on_merge() {
        let walk = Walk::reading(&[2, 3, 1, 4], &[12, 4, 99, 1], 0);
        assert_eq!(walk.merged().axes, [Axis { extent: 24, from: 1, to: 1 }]);
        let walk = Walk::reading(&[3, 2, 4], &[4, 12, 1], 0);
        assert_eq!(walk.merged().axes.len(), 3);
        assert_eq!(Walk::reading(&[], &[], 0).merged().len(), 1);
    }

    #[test]
    fn items_need_whole_strides() {
        let walk = Walk::reading(&[3, 8], &[16, 1], 4).merged();
        assert!(walk.in_items(4).is_some() && walk.in_items(8).is_none());
        assert!(Walk::reading(&[3, 8], &[15, 1], 4).merged().in_items(4).is_none());
        assert!(Walk::reading(&[8, 8], &[1, 8], 0).merged().in_items(4).is_none());
    }

    #[test]
    fn places_follow_the_strides() {
        let places: Vec<usize> =
            Walk::reading(&[2, 3], &[1, -2], 4).sources().map(|place| place.unwrap()).collect();
        assert_eq!(places, [4, 2, 0, 5, 3, 1]);
    }
}
