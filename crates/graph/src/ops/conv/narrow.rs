//! Few output channels a group: an invocation has all of them for four pixels.

use kiln_shaders as shaders;

use super::{Part, Plan};
use crate::ops::matmul::panels::PANEL;
use crate::ops::units;
use crate::{Io, Kernel, Launch, Tier};

/// Output channels up to which it wastes less than tiles do.
pub(super) const CHANNELS: usize = 16;

/// A launch for constant weights.
pub(super) fn launch(plan: &Plan, parts: &[Part], io: &Io, tier: &Tier) -> Launch {
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut units: Vec<_> = io.outputs.first().map(|y| units::elem(y.dtype)).into_iter().collect();
    units.extend([shaders::GRID, shaders::CONV_WALK, shaders::CONV_NARROW]);
    units.extend(plan.images(io));
    let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
    plan.tiled_launch("narrow", parts, kernel, 4 * workgroup, plan.cout_group().div_ceil(PANEL))
}
