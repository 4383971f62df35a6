//! Products of at most 16 rows, whose cost is reading b: time embeddings, heads, decoding.

use kiln_shaders::{self as shaders, Unit};

use super::product::Product;
use crate::{Kernel, Launch};

/// Most rows that the kernel takes.
const MOST_ROWS: usize = 16;

/// A launch, where the rows are few enough.
pub(super) fn launch(product: &Product) -> Option<Launch> {
    if product.e.m > MOST_ROWS {
        return None;
    }
    let rows = if product.e.m == 1 { 1 } else { product.e.m.next_multiple_of(4) };
    // One subgroup, where its size is known and it is not too short to be worth a workgroup.
    let (lanes, unit) = match product.tier.fixed_subgroup() {
        Some(size) if size >= 4 => (size, shaders::MATMUL_FEW_ROWS_SUBGROUP),
        _ => (64, shaders::MATMUL_FEW_ROWS_WORKGROUP),
    };
    let mut parts = vec![Unit::constants(&[("ROWS", rows as u32)])];
    parts.extend(product.load_units());
    parts.extend([shaders::MATMUL_FEW_ROWS, unit]);
    parts.extend(product.store_units());
    let kernel = Kernel::new(parts).set("WORKGROUP", lanes);
    Some(product.launch("few_rows", &kernel, (rows, 4)))
}
