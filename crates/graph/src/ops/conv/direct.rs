//! Up to four output channels of a pixel an invocation: for any options, any weights.

use kiln_shaders as shaders;

use super::{Part, Plan, WalkParams};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Tier};

/// Output channels an invocation.
const CHANNELS: usize = 4;

pub(super) fn launch(plan: &Plan, parts: &[Part], io: &Io, tier: &Tier) -> Launch {
    let tiles = plan.cout_group().div_ceil(CHANNELS);
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut units: Vec<_> = io.outputs.first().map(|y| units::elem(y.dtype)).into_iter().collect();
    units.extend([shaders::GRID, shaders::CONV_WALK, shaders::CONV_DIRECT]);
    units.extend(io.outputs.first().map(|y| io.epilogue.units(y, false)).into_iter().flatten());
    let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
    let dispatch = |part: &Part| {
        let params = WalkParams { channel_tiles: tiles as u32, ..part.params };
        let items = u64::from(params.pixels) * (plan.groups * tiles) as u64;
        part.bind(Dispatch::new(kernel.clone(), params, items.div_ceil(workgroup.into())))
    };
    Launch { name: "direct", dispatches: parts.iter().map(dispatch).collect(), ..Launch::default() }
}
