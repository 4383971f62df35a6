//! Weights packed for the kernels that compute convolutions as products.

use std::sync::Arc;

use super::{Axis, Part, Plan, WalkParams};
use crate::ops::matmul::panels::PANEL;
use crate::{Dispatch, Kernel, Launch, Pack, Tensor};

impl Plan {
    /// Input channels of a group as they are packed: whole fours.
    fn packed_channels(&self) -> usize {
        self.cin_group().next_multiple_of(4)
    }

    /// Packed elements of a walk.
    fn packed_len(&self, [h, w]: &[Axis; 2]) -> usize {
        let panels = self.groups * self.cout_group().div_ceil(PANEL);
        panels * h.taps * w.taps * self.packed_channels() * PANEL
    }

    /// A launch of a kernel that computes tiles of `tile` pixels, and so many tiles of a group's output channels, from
    /// packed weights.
    pub(super) fn tiled_launch(
        &self,
        name: &'static str,
        parts: &[Part],
        kernel: Kernel,
        tile: u32,
        channel_tiles: usize,
    ) -> Launch {
        let starts = self.packed_starts();
        let dispatch = |part: &Part| {
            let pixel_tiles = part.params.pixels.div_ceil(tile);
            let weight_start = starts[part.phase];
            let params =
                WalkParams { weight_start, pixel_tiles, channel_tiles: channel_tiles as u32, ..part.params };
            let groups = u64::from(pixel_tiles) * (self.groups * channel_tiles) as u64;
            part.bind(Dispatch::new(kernel.clone(), params, groups))
        };
        let dispatches = parts.iter().map(dispatch).collect();
        Launch { name, packs: vec![self.pack()], dispatches, ..Launch::default() }
    }

    /// Where each walk's packed weights start, in elements.
    fn packed_starts(&self) -> Vec<u32> {
        let lengths = self.phases.iter().scan(0, |at, phase| {
            let start = *at;
            *at += self.packed_len(phase);
            Some(start as u32)
        });
        lengths.collect()
    }

    /// The weight as [walk][group][panel of 8 output channels][tap][input channel, whole fours][8], filled up with zeros.
    fn pack(&self) -> Pack {
        let taps: Vec<[usize; 6]> = self
            .phases
            .iter()
            .map(|[h, w]| [h.tap_first, h.tap_step, h.taps, w.tap_first, w.tap_step, w.taps])
            .collect();
        let key = format!("conv panels {} {} {taps:?}", self.groups, self.transposed);
        let plan = self.clone();
        Pack { input: 1, key, apply: Arc::new(move |weight| Ok(plan.packed(weight)?)) }
    }

    fn packed(&self, weight: &Tensor) -> Result<Tensor, crate::LengthError> {
        let [group_stride, out_stride, in_stride, row_stride, column_stride] = self.weight_strides();
        let (channels, panels) = (self.packed_channels(), self.cout_group().div_ceil(PANEL));
        let len = self.phases.iter().map(|phase| self.packed_len(phase)).sum::<usize>();
        let elements = self.phases.iter().flat_map(|phase @ [h, w]| {
            (0..self.packed_len(phase)).map(move |i| {
                let (lane, rest) = (i % PANEL, i / PANEL);
                let (ci, rest) = (rest % channels, rest / channels);
                let (tap, rest) = (rest % (h.taps * w.taps), rest / (h.taps * w.taps));
                let (panel, group) = (rest % panels, rest / panels);
                let co = panel * PANEL + lane;
                let (ky, kx) =
                    (h.tap_first + tap / w.taps * h.tap_step, w.tap_first + tap % w.taps * w.tap_step);
                let at = group * group_stride
                    + co * out_stride
                    + ci * in_stride
                    + ky * row_stride
                    + kx * column_stride;
                (ci < self.cin_group() && co < self.cout_group()).then_some(at)
            })
        });
        weight.pick([len], elements)
    }
}
