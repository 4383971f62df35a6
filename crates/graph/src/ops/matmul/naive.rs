//! An element an invocation: for any extents, any strides.

use kiln_shaders as shaders;

use super::{Extents, Matmul};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, OpError, Source, Tier, params};

params! {
    struct NaiveParams {
        rows: u32, columns: u32, depth: u32, b_depth_stride: u32, b_column_stride: u32,
        inner: u32, a_outer: u32, a_inner: u32, b_outer: u32, b_inner: u32, elements: u32,
    }
}

/// At most two leading axes are left once those over which both inputs walk alike are merged.
pub(super) fn launch(op: &Matmul, e: &Extents, io: &Io, tier: &Tier) -> Result<Launch, OpError> {
    let y = &io.outputs[0];
    let (inner, strides) = two_axes(e).ok_or_else(|| {
        OpError::new(
            "matmul",
            io.inputs,
            "broadcasts over more than two separate leading axes; expand them first",
        )
    })?;
    let params = NaiveParams {
        rows: e.m as u32,
        columns: e.n as u32,
        depth: e.k as u32,
        b_depth_stride: if op.transpose_b { 1 } else { e.n as u32 },
        b_column_stride: if op.transpose_b { e.k as u32 } else { 1 },
        inner,
        a_outer: strides[0],
        a_inner: strides[1],
        b_outer: strides[2],
        b_inner: strides[3],
        elements: y.len() as u32,
        ..Default::default()
    };
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut parts = vec![units::elem(y.dtype), shaders::GRID, shaders::MATMUL_NAIVE];
    parts.extend(io.epilogue.units(y, false));
    let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
    let dispatch = Dispatch::new(kernel, params, (y.len() as u64).div_ceil(workgroup.into()))
        .bind("a", Source::Input(0))
        .bind("b", Source::Input(1))
        .bind("c", Source::Output(0));
    Ok(Launch::one("naive", io.epilogue.bind(dispatch, 2)))
}

/// Merges the leading axes into two: the inner one's extent, and the strides [a outer, a inner, b outer, b inner].
pub(super) fn two_axes(e: &Extents) -> Option<(u32, [u32; 4])> {
    // (extent, a's stride, b's stride), outermost first.
    let mut axes: Vec<(usize, usize, usize)> = Vec::new();
    for axis in 0..e.batch.len() {
        let (extent, a, b) = (e.batch[axis], e.a_strides[axis], e.b_strides[axis]);
        if extent == 1 {
            continue;
        }
        match axes.last_mut() {
            Some(last) if last.1 == a * extent && last.2 == b * extent => *last = (last.0 * extent, a, b),
            _ => axes.push((extent, a, b)),
        }
    }
    let at = |i: usize| axes.get(i).copied().unwrap_or((1, 0, 0));
    let (outer, inner) = match axes.len() {
        0 | 1 => ((1, 0, 0), at(0)),
        2 => (at(0), at(1)),
        _ => return None,
    };
    Some((inner.0 as u32, [outer.1 as u32, inner.1 as u32, outer.2 as u32, inner.2 as u32]))
}
