//! The parameters that all convolution kernels share.

use super::{Axis, Plan};
use crate::params;

params! {
    /// `Params` of conv/walk.wgsl.
    pub(super) struct WalkParams {
        in_h: u32, in_w: u32, cin: u32, out_h: u32, out_w: u32, cout: u32, cin_group: u32, cout_group: u32,
        pixels: u32, count_h: u32, count_w: u32, first_h: u32, first_w: u32, step_h: u32, step_w: u32,
        base_h: i32, base_w: i32, stride_h: i32, stride_w: i32, dilation_h: i32, dilation_w: i32,
        taps_h: u32, taps_w: u32, upsample: u32, x_start: u32, y_start: u32,
        weight_start: u32, weight_row: u32, weight_column: u32, weight_in: u32, weight_out: u32, weight_group: u32,
        pixel_tiles: u32, channel_tiles: u32,
    }
}

/// The parameters of a walk on whole tensors, with weights as they are stored and without tiles.
pub(super) fn params(plan: &Plan, [h, w]: &[Axis; 2]) -> WalkParams {
    let [group, out, input, row, column] = plan.weight_strides();
    WalkParams {
        in_h: plan.input[0] as u32,
        in_w: plan.input[1] as u32,
        cin: plan.cin as u32,
        out_h: plan.output[0] as u32,
        out_w: plan.output[1] as u32,
        cout: plan.cout as u32,
        cin_group: plan.cin_group() as u32,
        cout_group: plan.cout_group() as u32,
        pixels: (plan.batch * h.count * w.count) as u32,
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
        upsample: plan.upsample.trailing_zeros(),
        weight_start: (h.tap_first * row + w.tap_first * column) as u32,
        weight_row: (h.tap_step * row) as u32,
        weight_column: (w.tap_step * column) as u32,
        weight_in: input as u32,
        weight_out: out as u32,
        weight_group: group as u32,
        ..Default::default()
    }
}
