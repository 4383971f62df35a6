//! Register tiles without shared memory or barriers, for software rasterisers.

use std::sync::Arc;

use kiln_shaders::{self as shaders, Unit};

use super::panels::{self, PANEL};
use super::{Extents, Matmul, Walk};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Pack, Source, Tier, params};

params! {
    struct LanesParams {
        rows: u32, columns: u32, depth: u32, row_tiles: u32, column_tiles: u32,
        inner: u32, a_outer: u32, a_inner: u32, b_outer: u32, b_inner: u32,
        a_start: u32, b_start: u32, c_start: u32,
    }
}

/// The lanes of a workgroup and the unit that gives them the rows of a. Where subgroups have one size, a workgroup is
/// one of them and its lanes share what they load.
pub(crate) fn lanes(tier: &Tier) -> (u32, Unit) {
    match tier.fixed_subgroup() {
        Some(size) if size >= 4 => (size, shaders::MATMUL_LANES_ROWS_SHUFFLE),
        _ => (8, shaders::MATMUL_LANES_ROWS_PLAIN),
    }
}

/// Rows of a tile. A tile of R rows takes about 13 + R units of time: what it costs to load b, and the sums.
pub(crate) fn tile_rows(rows: usize) -> u32 {
    let time = |&tile: &u32| rows.div_ceil(tile as usize) * (13 + tile as usize);
    [32, 16, 8, 4].into_iter().min_by_key(time).unwrap_or(16)
}

/// A launch for any extents. A constant b of one matrix is packed in panels, whichever way it is stored.
pub(super) fn launch(op: &Matmul, e: &Extents, io: &Io, tier: &Tier) -> Launch {
    let y = &io.outputs[0];
    let walk = Walk::new(e);
    let (lanes, rows_unit) = lanes(tier);
    let tile = tile_rows(e.m);
    let (row_tiles, column_tiles) = (e.m.div_ceil(tile as usize), e.n.div_ceil(lanes as usize * PANEL));
    let whole = |extent: usize| extent.is_multiple_of(4);
    let pack = io.is_constant(1) && e.batch.is_empty();
    let a_unit = if whole(e.k) { shaders::MATMUL_A_VEC4 } else { shaders::MATMUL_A_SCALAR };
    let b_unit = match (pack, op.transpose_b) {
        (true, _) => shaders::MATMUL_B_PANELS,
        (_, true) if whole(e.k) => shaders::MATMUL_B_COLUMNS_VEC4,
        (_, true) => shaders::MATMUL_B_COLUMNS_SCALAR,
        (_, false) if whole(e.n) => shaders::MATMUL_B_ROWS_VEC4,
        (_, false) => shaders::MATMUL_B_ROWS_SCALAR,
    };
    let c_unit = if whole(e.n) { shaders::MATMUL_C_VEC4 } else { shaders::MATMUL_C_SCALAR };
    let constants = Unit::constants(&[("LANES", lanes), ("ROWS", tile)]);
    let mut parts = vec![constants, units::elem(y.dtype), shaders::GRID, shaders::MATMUL_LANES];
    parts.extend([rows_unit, a_unit, b_unit, c_unit]);
    parts.extend(io.epilogue.units(y, whole(e.n)));
    let kernel = Kernel::new(parts);
    let dispatches = walk.starts.iter().map(|&[a_start, b_start, c_start]| {
        let params = LanesParams {
            rows: e.m as u32,
            columns: e.n as u32,
            depth: e.k as u32,
            row_tiles: row_tiles as u32,
            column_tiles: column_tiles as u32,
            inner: walk.inner,
            a_outer: walk.a_outer,
            a_inner: walk.a_inner,
            b_outer: walk.b_outer,
            b_inner: walk.b_inner,
            a_start,
            b_start,
            c_start,
            ..Default::default()
        };
        let groups = (row_tiles * column_tiles * walk.products) as u64;
        let dispatch = Dispatch::new(kernel.clone(), params, groups)
            .bind("a", Source::Input(0))
            .bind("b", Source::Input(1))
            .bind("c", Source::Output(0));
        io.epilogue.bind(dispatch, 2)
    });
    let dispatches = dispatches.collect();
    let packs = if pack { vec![pack_b(op, e)] } else { Vec::new() };
    Launch { name: "lanes", packs, dispatches, ..Launch::default() }
}

/// b in panels.
fn pack_b(op: &Matmul, e: &Extents) -> Pack {
    let (k, n, transposed) = (e.k, e.n, op.transpose_b);
    let apply = move |b: &crate::Tensor| {
        let at = |i: usize, j: usize| if transposed { j * k + i } else { i * n + j };
        Ok(panels::pack(b, k, n, at)?)
    };
    let key = format!("panels {k}x{n}{}", if transposed { " transposed" } else { "" });
    Pack { input: 1, key, apply: Arc::new(apply) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_the_rows() {
        assert_eq!([1, 4, 7, 16, 33, 197, 1024].map(tile_rows), [4, 4, 8, 16, 16, 32, 32]);
    }
}
