//! Register tiles without shared memory or barriers, for software rasterisers.

use kiln_shaders::{self as shaders, Unit};

use super::panels::PANEL;
use super::product::Product;
use crate::{Kernel, Launch, Tier};

/// The lanes of a workgroup and the unit that gives them the rows of a. Where subgroups have one size, a workgroup is
/// one of them and its lanes share what they load.
fn lanes(tier: &Tier) -> (u32, Unit) {
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

/// The kernel with these units, which say what becomes of the sums, and the rows and columns of its tiles.
pub(crate) fn kernel(product: &Product, result: Vec<Unit>) -> (Kernel, (usize, usize)) {
    let (lanes, rows_unit) = lanes(product.tier);
    let rows = if product.e.m == 1 { 1 } else { tile_rows(product.e.m) };
    let mut parts = vec![Unit::constants(&[("LANES", lanes), ("ROWS", rows)])];
    parts.extend(product.load_units());
    parts.extend([shaders::MATMUL_LANES, rows_unit]);
    parts.extend(result);
    (Kernel::new(parts), (rows as usize, lanes as usize * PANEL))
}

/// A launch for any extents.
pub(super) fn launch(product: &Product) -> Launch {
    let result = [vec![shaders::MATMUL_LANES_RESULT], product.store_units()].concat();
    let (kernel, tile) = kernel(product, result);
    product.launch("lanes", &kernel, tile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_the_rows() {
        assert_eq!([1, 4, 7, 16, 33, 197, 1024].map(tile_rows), [4, 4, 8, 16, 16, 32, 32]);
    }
}
