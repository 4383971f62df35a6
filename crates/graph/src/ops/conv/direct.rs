//! Up to four output channels of a pixel an invocation: for any options, any weights.

use kiln_shaders as shaders;

use super::{Axis, Plan};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, Source, Tier, params};

params! {
    struct DirectParams {
        items: u32, in_h: u32, in_w: u32, cin: u32, out_h: u32, out_w: u32, cout: u32,
        cin_group: u32, cout_group: u32, count_h: u32, count_w: u32, first_h: u32, first_w: u32,
        step_h: u32, step_w: u32, base_h: i32, base_w: i32, stride_h: i32, stride_w: i32,
        dilation_h: i32, dilation_w: i32, taps_h: u32, taps_w: u32, upsample: u32,
        weight_first: u32, weight_row: u32, weight_column: u32, weight_in: u32, weight_out: u32, weight_group: u32,
    }
}

/// Output channels an invocation.
const CHANNELS: usize = 4;

pub(super) fn launch(plan: &Plan, io: &Io, tier: &Tier) -> Launch {
    let phases = plan.phases.iter().map(|phase| dispatch(plan, phase, io, tier));
    Launch { name: "direct", dispatches: phases.collect(), ..Launch::default() }
}

fn dispatch(plan: &Plan, [h, w]: &[Axis; 2], io: &Io, tier: &Tier) -> Dispatch {
    let y = &io.outputs[0];
    let [group, out, input, row, column] = plan.weight_strides();
    let items = plan.batch * h.count * w.count * plan.groups * plan.cout_group().div_ceil(CHANNELS);
    let params = DirectParams {
        items: items as u32,
        in_h: plan.input[0] as u32,
        in_w: plan.input[1] as u32,
        cin: plan.cin as u32,
        out_h: plan.output[0] as u32,
        out_w: plan.output[1] as u32,
        cout: plan.cout as u32,
        cin_group: plan.cin_group() as u32,
        cout_group: plan.cout_group() as u32,
        count_h: h.count as u32,
        count_w: w.count as u32,
        first_h: h.first as u32,
        first_w: w.first as u32,
        step_h: h.step as u32,
        step_w: w.step as u32,
        base_h: h.base,
        base_w: w.base,
        stride_h: h.stride,
        stride_w: w.stride,
        dilation_h: h.dilation,
        dilation_w: w.dilation,
        taps_h: h.taps as u32,
        taps_w: w.taps as u32,
        upsample: plan.upsample as u32,
        weight_first: (h.tap_first * row + w.tap_first * column) as u32,
        weight_row: (h.tap_step * row) as u32,
        weight_column: (w.tap_step * column) as u32,
        weight_in: input as u32,
        weight_out: out as u32,
        weight_group: group as u32,
        ..Default::default()
    };
    let workgroup = 64.min(tier.limits.max_invocations);
    let mut parts = vec![units::elem(y.dtype), shaders::GRID, shaders::CONV_DIRECT];
    parts.extend(io.epilogue.units(y, false));
    let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
    let dispatch = Dispatch::new(kernel, params, (items as u64).div_ceil(workgroup.into()))
        .bind("x", Source::Input(0))
        .bind("weight", Source::Input(1))
        .bind("y", Source::Output(0));
    io.epilogue.bind(dispatch, 2)
}
