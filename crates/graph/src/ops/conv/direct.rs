//! Up to four output channels of a pixel an invocation: for any options, any weights.

use kiln_shaders as shaders;

use super::{Axis, Plan, WalkParams, walk};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Source, Tier};

/// Output channels an invocation.
const CHANNELS: usize = 4;

pub(super) fn launch(plan: &Plan, io: &Io, tier: &Tier) -> Launch {
    let phases = plan.phases.iter().map(|phase| dispatch(plan, phase, io, tier));
    Launch { name: "direct", dispatches: phases.collect(), ..Launch::default() }
}

fn dispatch(plan: &Plan, phase: &[Axis; 2], io: &Io, tier: &Tier) -> Dispatch {
    let y = &io.outputs[0];
    let tiles = plan.cout_group().div_ceil(CHANNELS);
    let params = WalkParams { channel_tiles: tiles as u32, ..walk::params(plan, phase) };
    let items = u64::from(params.pixels) * (plan.groups * tiles) as u64;
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut parts = vec![units::elem(y.dtype), shaders::GRID, shaders::CONV_WALK, shaders::CONV_DIRECT];
    parts.extend(io.epilogue.units(y, false));
    let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
    let dispatch = Dispatch::new(kernel, params, items.div_ceil(workgroup.into()))
        .bind("x", Source::Input(0))
        .bind("weight", Source::Input(1))
        .bind("y", Source::Output(0));
    io.epilogue.bind(dispatch, 2)
}
