//! Products in register tiles without shared memory or barriers, for software rasterisers.

use kiln_shaders::{self as shaders, Unit};

use super::Plan;
use crate::ops::matmul::lanes::tile_rows;
use crate::ops::matmul::panels::PANEL;
use crate::ops::units;
use crate::{Io, Kernel, Launch, Tier};

/// A launch for constant weights.
pub(super) fn launch(plan: &Plan, io: &Io, tier: &Tier) -> Launch {
    let y = &io.outputs[0];
    let (lanes, share, sharing) = match tier.fixed_subgroup() {
        Some(size) if size >= 4 => (size, size, shaders::CONV_LANES_SHARED),
        _ => (8, 1, shaders::CONV_LANES_ALONE),
    };
    let pixels = plan.phases.iter().map(|[h, w]| plan.batch * h.count * w.count).max().unwrap_or(0);
    // A lane holds at most eight pixels.
    let tile = tile_rows(pixels).min(8 * share);
    let channel_tiles = plan.cout_group().div_ceil(lanes as usize * PANEL);
    let mut parts = vec![
        Unit::constants(&[("LANES", lanes), ("TILE", tile)]),
        units::elem(y.dtype),
        shaders::GRID,
        shaders::CONV_WALK,
        shaders::CONV_LANES,
        sharing,
    ];
    parts.extend(plan.images(io));
    plan.tiled_launch("lanes", io, Kernel::new(parts), tile, channel_tiles)
}
