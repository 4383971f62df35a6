//! Tiles in shared memory, for GPUs.

use kiln_shaders::{self as shaders, Unit};

use super::product::Product;
use crate::{Kernel, Launch};

/// Shared memory and invocations that the kernel takes: what WebGPU promises everywhere.
const SHARED_BYTES: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;

/// Workgroups that keep a large GPU busy. The tier does not tell how many units there are; an H100 has 132.
const ENOUGH: usize = 128;

/// Fewest terms that are worth a partial sum.
const LEAST_SPLIT: usize = 128;

/// How the kernel is cut: blocks of 64 along the rows and the columns, and terms staged at a time.
#[derive(Clone, Copy)]
struct Shape {
    row_blocks: u32,
    column_blocks: u32,
    slice: u32,
}

/// 8 x 8 sums an invocation.
const LARGE: Shape = Shape { row_blocks: 2, column_blocks: 2, slice: 16 };
/// 4 x 4 sums an invocation.
const SMALL: Shape = Shape { row_blocks: 1, column_blocks: 1, slice: 32 };

impl Shape {
    fn tile(self) -> (usize, usize) {
        (64 * self.row_blocks as usize, 64 * self.column_blocks as usize)
    }

    /// Number of tiles of a product.
    fn tiles(self, product: &Product) -> usize {
        let (rows, columns) = self.tile();
        product.e.m.div_ceil(rows) * product.e.n.div_ceil(columns) * product.products()
    }

    fn kernel(self, product: &Product, store: Vec<Unit>) -> Kernel {
        let constants = Unit::constants(&[
            ("ROW_BLOCKS", self.row_blocks),
            ("COLUMN_BLOCKS", self.column_blocks),
            ("SLICE", self.slice),
            ("B_ALONG_DEPTH", product.b_along_depth().into()),
        ]);
        let mut parts = vec![constants];
        parts.extend(product.load_units());
        parts.push(shaders::MATMUL_TILED);
        parts.extend(store);
        Kernel::new(parts)
    }
}

/// Launches by tiles, best guess first.
pub(super) fn launches(product: &Product) -> Vec<Launch> {
    let limits = &product.tier.limits;
    if limits.max_shared_bytes < SHARED_BYTES || limits.max_invocations < INVOCATIONS {
        return Vec::new();
    }
    let launch = |name, shape: Shape| {
        product.launch(name, &shape.kernel(product, product.store_units()), shape.tile())
    };
    let mut launches = vec![launch("tiled_64", SMALL)];
    if product.e.m > 64 && product.e.n > 64 {
        let large = launch("tiled_128", LARGE);
        let at = if LARGE.tiles(product) >= ENOUGH { 0 } else { 1 };
        launches.insert(at, large);
    }
    if let Some(depth) = split_depth(SMALL.tiles(product), product.e.k, SMALL.slice as usize)
        && product.is_one_walk()
        && scratch_fits(product, depth)
    {
        let kernel = SMALL.kernel(product, vec![shaders::MATMUL_C_PARTIAL]);
        launches.insert(0, product.split_launch("tiled_64_split", &kernel, SMALL.tile(), depth));
    }
    launches
}

/// Terms of a partial sum, where tiles are so few that sums are worth splitting.
fn split_depth(tiles: usize, depth: usize, slice: usize) -> Option<usize> {
    let splits = (2 * ENOUGH / tiles.max(1)).min(depth / LEAST_SPLIT).min(32);
    (tiles < ENOUGH && splits >= 2).then(|| depth.div_ceil(splits).next_multiple_of(slice))
}

/// Whether nothing is so large that it has to be cut, which partial sums are not.
fn scratch_fits(product: &Product, depth: usize) -> bool {
    let e = product.e;
    let splits = e.k.div_ceil(depth);
    let partial = splits * product.products() * e.m * e.n.next_multiple_of(4) * 4;
    let largest = product.io.inputs.iter().map(|desc| desc.bytes()).max().unwrap_or(0).max(partial);
    largest as u64 <= product.tier.limits.max_binding_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tiles_are_split() {
        assert_eq!(split_depth(48, 3072, 32), Some(640));
        assert_eq!(split_depth(48, 256, 32), Some(128));
        assert_eq!(split_depth(48, 200, 32), None);
        assert_eq!(split_depth(256, 4096, 32), None);
    }
}
