//! An element an invocation: for any extents, any strides.

use kiln_shaders as shaders;

use super::{Extents, Matmul, Walk};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Source, Tier, params};

params! {
    struct NaiveParams {
        rows: u32, columns: u32, depth: u32, b_depth_stride: u32, b_column_stride: u32,
        inner: u32, a_outer: u32, a_inner: u32, b_outer: u32, b_inner: u32, elements: u32,
        a_start: u32, b_start: u32, c_start: u32,
    }
}

/// A launch for any extents.
pub(super) fn launch(op: &Matmul, e: &Extents, io: &Io, tier: &Tier) -> Launch {
    let y = &io.outputs[0];
    let walk = Walk::new(e);
    let elements = walk.products * e.m * e.n;
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut parts = vec![units::elem(y.dtype), shaders::GRID, shaders::MATMUL_NAIVE];
    parts.extend(io.epilogue.units(y, false));
    let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
    let dispatches = walk.starts.iter().map(|&[a_start, b_start, c_start]| {
        let params = NaiveParams {
            rows: e.m as u32,
            columns: e.n as u32,
            depth: e.k as u32,
            b_depth_stride: if op.transpose_b { 1 } else { e.n as u32 },
            b_column_stride: if op.transpose_b { e.k as u32 } else { 1 },
            inner: walk.inner,
            a_outer: walk.a_outer,
            a_inner: walk.a_inner,
            b_outer: walk.b_outer,
            b_inner: walk.b_inner,
            elements: elements as u32,
            a_start,
            b_start,
            c_start,
            ..Default::default()
        };
        let dispatch = Dispatch::new(kernel.clone(), params, (elements as u64).div_ceil(workgroup.into()))
            .bind("a", Source::Input(0))
            .bind("b", Source::Input(1))
            .bind("c", Source::Output(0));
        io.epilogue.bind(dispatch, 2)
    });
    Launch { name: "naive", dispatches: dispatches.collect(), ..Launch::default() }
}
