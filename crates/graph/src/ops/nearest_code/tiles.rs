//! Many codes of many channels: a product tells which tiles of codes may have the nearest, and these are looked at.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::lines::workgroup_for;
use crate::ops::matmul::{Extents, Matmul, Product, lanes};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Source, Tier, params};

params! {
    struct DecideParams { first_row: u32, codes: u32, channels: u32, tiles: u32, tile_codes: u32 }
}

/// Fewest channels and codes that are worth a product.
const LEAST_CHANNELS: usize = 32;
const LEAST_CODES: usize = 128;

/// Most bytes of bounds at a time; rows beyond are done after.
const MOST_BOUNDS: usize = 16 << 20;
/// Bytes of the bounds of a vector and a tile.
const BOUND: usize = 8;

/// A launch, where subgroups have one size and there is enough to do. `access` loads vectors and codes.
pub(super) fn launch(io: &Io, tier: &Tier, access: Unit) -> Option<Launch> {
    let (codebook, rows) = (&io.inputs[1], io.outputs[0].len());
    let channels = codebook.last();
    let codes = codebook.len() / channels.max(1);
    let subgroup = tier.fixed_subgroup().unwrap_or(0);
    if subgroup < 4 || channels < LEAST_CHANNELS || codes < LEAST_CODES || rows == 0 {
        return None;
    }
    let op = Matmul { transpose_b: true };
    let (a_strides, b_strides) = (Vec::new(), Vec::new());
    let e = Extents { batch: Vec::new(), m: rows, n: codes, k: channels, a_strides, b_strides };
    let product = Product::new(&op, &e, io, tier, false);
    let (kernel, tile) =
        lanes::kernel(&product, vec![shaders::NEAREST_CODE_SLACK, shaders::NEAREST_CODE_BOUNDS]);
    let tiles = codes.div_ceil(tile.1);

    let workgroup = workgroup_for(tile.1, tier);
    let loads = channels / if channels.is_multiple_of(4) { 4 } else { 1 };
    // Every tile may be in question.
    if tiles * (1 + tile.1.div_ceil(workgroup as usize) * (1 + loads)) > units::MAX_LOOP_ITERATIONS {
        return None;
    }
    let parts = [
        units::elem(codebook.dtype),
        access,
        shaders::GRID,
        shaders::NEAREST_CODE_SLACK,
        shaders::NEAREST_CODE_DECIDE,
    ];
    let decide = Kernel::new(parts).set("WORKGROUP", workgroup);
    let most_bytes = MOST_BOUNDS.min(tier.limits.max_binding_bytes as usize);
    let most_rows = (most_bytes / (tiles * BOUND)).min(rows);
    if most_rows == 0 {
        return None;
    }
    let slab = |first: usize| {
        let rows = first..rows.min(first + most_rows);
        let params = DecideParams {
            first_row: first as u32,
            codes: codes as u32,
            channels: channels as u32,
            tiles: tiles as u32,
            tile_codes: tile.1 as u32,
            ..Default::default()
        };
        let decide = Dispatch::new(decide.clone(), params, rows.len() as u64)
            .bind("x", Source::Input(0))
            .bind("codebook", Source::Input(1))
            .bind("bounds", Source::Scratch(0))
            .bind("y", Source::Output(0));
        [product.sums(&kernel, tile, rows).bind("bounds", Source::Scratch(0)), decide]
    };
    Some(Launch {
        name: "tiles",
        scratch: vec![(most_rows * tiles * BOUND) as u64],
        dispatches: (0..rows).step_by(most_rows).flat_map(slab).collect(),
        ..Launch::default()
    })
}
