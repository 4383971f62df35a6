//! Products of tiles in shared memory, for GPUs.

use kiln_shaders::{self as shaders, Unit};

use super::{Part, Plan};
use crate::ops::units;
use crate::{Io, Kernel, Launch, Tier};

/// Tiles that keep a GPU's compute units busy; with fewer, smaller tiles are better.
const ENOUGH_TILES: usize = 128;

/// Launches for constant weights, with tiles of 64 x 64 and 128 x 128, best guess first; none where a workgroup cannot
/// have 256 invocations.
pub(super) fn launches(plan: &Plan, parts: &[Part], io: &Io, tier: &Tier) -> Vec<Launch> {
    if tier.limits.max_invocations < 256 {
        return Vec::new();
    }
    let pixels = parts.iter().map(|part| part.params.pixels as usize).max().unwrap_or(0);
    let large = pixels.div_ceil(128) * plan.groups * plan.cout_group().div_ceil(128);
    let mut launches = vec![launch(plan, parts, io, "tiled-64", 1), launch(plan, parts, io, "tiled-128", 2)];
    if large >= ENOUGH_TILES && plan.cout_group() > 64 {
        launches.reverse();
    }
    launches
}

fn launch(plan: &Plan, parts: &[Part], io: &Io, name: &'static str, halves: u32) -> Launch {
    let tile = 64 * halves;
    let mut units = vec![Unit::constants(&[("HALVES", halves)])];
    units.extend(io.outputs.first().map(|y| units::elem(y.dtype)));
    units.extend([shaders::GRID, shaders::CONV_WALK, shaders::CONV_TILED]);
    units.extend(plan.images(io));
    plan.tiled_launch(name, parts, Kernel::new(units), tile, plan.cout_group().div_ceil(tile as usize))
}
