//! Products in register tiles without shared memory or barriers, for software rasterisers.

use kiln_shaders::{self as shaders, Unit};

use super::{Part, Plan};
use crate::ops::matmul::lanes::tile_rows;
use crate::ops::matmul::panels::PANEL;
use crate::ops::units;
use crate::{Io, Kernel, Launch, Tier};

/// A launch for constant weights.
pub(super) fn launch(plan: &Plan, parts: &[Part], io: &Io, tier: &Tier) -> Launch {
    let y = &io.outputs[0];
    let (lanes, share, sharing) = match tier.fixed_subgroup() {
        Some(size) if size >= 4 => (size, size, shaders::CONV_LANES_SHARED),
        _ => (8, 1, shaders::CONV_LANES_ALONE),
    };
    let pixels = parts.iter().map(|part| part.params.pixels as usize).max().unwrap_or(0);
    // A lane holds at most eight pixels.
    let tile = tile_rows(pixels).min(8 * share);
    let channel_tiles = plan.cout_group().div_ceil(lanes as usize * PANEL);
    let mut units = vec![
        Unit::constants(&[("LANES", lanes), ("TILE", tile)]),
        units::elem(y.dtype),
        shaders::GRID,
        shaders::CONV_WALK,
        shaders::CONV_LANES,
        sharing,
    ];
    units.extend(plan.images(io));
    plan.tiled_launch("lanes", parts, Kernel::new(units), tile, channel_tiles)
}
