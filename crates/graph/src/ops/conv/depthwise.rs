//! Depthwise convolutions, four channels of a pixel an invocation.

use std::sync::Arc;

use kiln_shaders as shaders;

use super::{Part, Plan, WalkParams};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Pack, Tier};

/// Whether the kernel takes it: a filter a channel, and whole fours of channels.
pub(super) fn fits(plan: &Plan) -> bool {
    plan.groups == plan.cin && plan.cin == plan.cout && plan.cin.is_multiple_of(4)
}

/// A launch for constant weights.
pub(super) fn launch(plan: &Plan, parts: &[Part], io: &Io, tier: &Tier) -> Launch {
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut units: Vec<_> = io.outputs.first().map(|y| units::elem(y.dtype)).into_iter().collect();
    units.extend([shaders::GRID, shaders::CONV_WALK, shaders::CONV_DEPTHWISE]);
    units.extend(io.outputs.first().map(|y| io.epilogue.units(y, true)).into_iter().flatten());
    let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
    let starts: Vec<u32> = plan
        .phases
        .iter()
        .scan(0, |at, [h, w]| {
            let start = *at;
            *at += (h.taps * w.taps * plan.cin) as u32;
            Some(start)
        })
        .collect();
    let dispatch = |part: &Part| {
        let params = WalkParams { weight_start: starts[part.phase], ..part.params };
        let items = u64::from(params.pixels) * (plan.cin / 4) as u64;
        part.bind(Dispatch::new(kernel.clone(), params, items.div_ceil(workgroup.into())))
    };
    let dispatches = parts.iter().map(dispatch).collect();
    Launch { name: "depthwise", packs: vec![pack(plan)], dispatches, ..Launch::default() }
}

/// The weight as [walk][tap][channel].
fn pack(plan: &Plan) -> Pack {
    let [channel_stride, _, _, row_stride, column_stride] = plan.weight_strides();
    let channels = plan.cin;
    let mut taps = Vec::new();
    for [h, w] in &plan.phases {
        for (y, x) in (0..h.taps).flat_map(|y| (0..w.taps).map(move |x| (y, x))) {
            let (ky, kx) = (h.tap_first + y * h.tap_step, w.tap_first + x * w.tap_step);
            taps.push(ky * row_stride + kx * column_stride);
        }
    }
    let key = format!("conv depthwise {taps:?}");
    let apply = move |weight: &crate::Tensor| {
        let at = |tap: &usize| {
            let tap = *tap;
            (0..channels).map(move |c| Some(tap + c * channel_stride))
        };
        Ok(weight.pick([taps.len(), channels], taps.iter().flat_map(at))?)
    };
    Pack { input: 1, key, apply: Arc::new(apply) }
}
