//! Products of tiles in shared memory, for GPUs.

use kiln_shaders::{self as shaders, Unit};

use super::Plan;
use crate::ops::units;
use crate::{Io, Kernel, Launch, Tier};

/// Tiles that keep a GPU's compute units busy; with fewer, smaller tiles are better.
const ENOUGH_TILES: usize = 128;

/// Launches for constant weights, with tiles of 64 x 64 and 128 x 128, best guess first; none where a workgroup cannot
/// have 256 invocations.
pub(super) fn launches(plan: &Plan, io: &Io, tier: &Tier) -> Vec<Launch> {
    if tier.limits.max_invocations < 256 {
        return Vec::new();
    }
    let pixels = plan.phases.iter().map(|[h, w]| plan.batch * h.count * w.count).max().unwrap_or(0);
    let large = pixels.div_ceil(128) * plan.groups * plan.cout_group().div_ceil(128);
    let mut launches = vec![launch(plan, io, "tiled-64", 1), launch(plan, io, "tiled-128", 2)];
    if large >= ENOUGH_TILES && plan.cout_group() > 64 {
        launches.reverse();
    }
    launches
}

fn launch(plan: &Plan, io: &Io, name: &'static str, halves: u32) -> Launch {
    let tile = 64 * halves;
    let mut parts = vec![Unit::constants(&[("HALVES", halves)])];
    parts.extend(io.outputs.first().map(|y| units::elem(y.dtype)));
    parts.extend([shaders::GRID, shaders::CONV_WALK, shaders::CONV_TILED]);
    parts.extend(plan.images(io));
    plan.tiled_launch(name, io, Kernel::new(parts), tile, plan.cout_group().div_ceil(tile as usize))
}
