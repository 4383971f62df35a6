//! The launch that ops share whose inputs all broadcast: an element an invocation, by strides.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::units;
use crate::{Dispatch, Kernel, OpError, TensorDesc, params};

params! {
    struct BroadcastParams {
        len: u32, last: u32,
        extents0: [u32; 4], extents1: [u32; 4],
        a0: [u32; 4], a1: [u32; 4], b0: [u32; 4], b1: [u32; 4], c0: [u32; 4], c1: [u32; 4],
        rank: u32,
    }
}

/// An axis of the result: its extent, and the elements between neighbours in up to three inputs.
type Axis = (usize, [usize; 3]);

/// The result's axes with those merged over which every input walks alike.
fn merged(inputs: &[&[usize]], y: &[usize]) -> Vec<Axis> {
    let strides: Vec<Vec<usize>> = inputs
        .iter()
        .map(|shape| {
            let own = crate::strides(shape);
            let pad = y.len() - shape.len();
            let stride = |axis: usize| {
                if axis < pad || shape[axis - pad] == 1 { 0 } else { own[axis - pad] }
            };
            (0..y.len()).map(stride).collect()
        })
        .collect();
    let mut axes: Vec<Axis> = Vec::new();
    for (axis, &extent) in y.iter().enumerate().filter(|&(_, &extent)| extent != 1) {
        let mut own = [0; 3];
        own.iter_mut().zip(&strides).for_each(|(own, strides)| *own = strides[axis]);
        match axes.last_mut() {
            Some((outer, steps)) if (0..3).all(|k| steps[k] == own[k] * extent) => {
                *outer *= extent;
                *steps = own;
            }
            _ => axes.push((extent, own)),
        }
    }
    axes
}

/// Axes that the kernel takes.
const MAX_AXES: usize = 8;

/// Refuses inputs that broadcast over more axes than the kernel walks.
pub(super) fn check(op: &'static str, descs: &[TensorDesc], y: &[usize]) -> Result<(), OpError> {
    let shapes: Vec<&[usize]> = descs.iter().map(|desc| &desc.shape[..]).collect();
    if merged(&shapes, y).len() <= MAX_AXES {
        return Ok(());
    }
    Err(OpError::new(op, descs, format!("broadcasts over more than {MAX_AXES} separate axes")))
}

/// A dispatch of a kernel made of `own` units, which may call `place`, over the elements of `y`. Nothing is bound yet.
pub(super) fn dispatch(own: &[Unit], inputs: &[&TensorDesc], elem: Unit, y: &TensorDesc) -> Dispatch {
    const WORKGROUP: u32 = 64;
    let shapes: Vec<&[usize]> = inputs.iter().map(|desc| &desc.shape[..]).collect();
    let axes = merged(&shapes, &y.shape);
    let four = |first: usize, of: &dyn Fn(&Axis) -> usize, none: u32| {
        [0, 1, 2, 3].map(|k| axes.get(first + k).map_or(none, |axis| of(axis) as u32))
    };
    let strides = |first: usize, k: usize| four(first, &|axis| axis.1[k], 0);
    let params = BroadcastParams {
        len: y.len() as u32,
        last: y.last() as u32,
        extents0: four(0, &|axis| axis.0, 1),
        extents1: four(4, &|axis| axis.0, 1),
        a0: strides(0, 0),
        a1: strides(4, 0),
        b0: strides(0, 1),
        b1: strides(4, 1),
        c0: strides(0, 2),
        c1: strides(4, 2),
        rank: axes.len() as u32,
        ..Default::default()
    };
    let mut parts = vec![elem, shaders::GRID, shaders::BROADCAST];
    parts.extend_from_slice(own);
    let kernel = Kernel::new(parts).set("WORKGROUP", WORKGROUP);
    Dispatch::new(kernel, params, (y.len() as u64).div_ceil(u64::from(WORKGROUP)))
}

/// The unit of an input's element type.
pub(super) fn elem(desc: &TensorDesc) -> Unit {
    units::elem(desc.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_where_all_inputs_walk_alike() {
        assert_eq!(merged(&[&[2, 3, 4], &[2, 3, 4]], &[2, 3, 4]), [(24, [1, 1, 0])]);
        assert_eq!(merged(&[&[2, 3, 4], &[3, 4]], &[2, 3, 4]), [(2, [12, 0, 0]), (12, [1, 1, 0])]);
        assert_eq!(
            merged(&[&[2, 1, 4], &[1, 3, 1]], &[2, 3, 4]),
            [(2, [4, 0, 0]), (3, [0, 1, 0]), (4, [1, 0, 0])]
        );
        assert!(merged(&[&[], &[1]], &[1]).is_empty());
    }
}
