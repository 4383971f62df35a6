//! How a compiled graph is encoded: estimates, cuts, and writes.

use crate::compile::StepInfo;
use crate::{Error, Gpu};

/// Longest estimated time of a submit, in seconds: longer ones starve the screen and wake watchdogs.
pub(crate) const SUBMIT_SECONDS: f64 = 0.1;

/// Rough time of a step in seconds, for cutting work into submits; cautious on slow devices.
pub(crate) fn estimate(gpu: &Gpu, step: &StepInfo) -> f64 {
    seconds(gpu, step.flops, step.bytes)
}

/// Rough time of so much work in seconds.
pub(crate) fn seconds(gpu: &Gpu, flops: u64, bytes: u64) -> f64 {
    let (rate, bandwidth) = match gpu.info().device_type {
        wgpu::DeviceType::Cpu => (20e9, 5e9),
        wgpu::DeviceType::DiscreteGpu => (4e12, 150e9),
        _ => (0.5e12, 20e9),
    };
    flops as f64 / rate + bytes as f64 / bandwidth
}

/// A part of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// First group.
    pub first: u32,
    /// One past the last group.
    pub end: u32,
    /// The grid that covers them.
    pub grid: [u32; 3],
    /// Share of all groups.
    pub share: f64,
}

/// Folds a run of groups into grids within the limit, cut so that none takes much longer than a submit may.
pub(crate) fn cut(groups: u64, seconds: f64, max_groups: u32) -> Vec<Part> {
    let parts = (seconds / SUBMIT_SECONDS).ceil().clamp(1.0, 1024.0) as u64;
    let chunk = groups.div_ceil(parts).max(1);
    let limit = u64::from(max_groups);
    (0..groups)
        .step_by(chunk as usize)
        .map(|first| {
            let end = (first + chunk).min(groups);
            let count = end - first;
            let rows = count.div_ceil(limit);
            let columns = count.div_ceil(rows);
            Part {
                first: first as u32,
                end: end as u32,
                grid: [columns as u32, rows as u32, 1],
                share: count as f64 / groups as f64,
            }
        })
        .collect()
}

/// Writes bytes to a buffer, padded with zeros to the four bytes that copies want.
pub(crate) async fn write(gpu: &Gpu, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let whole = bytes.len() / 4 * 4;
    let mut tail = [0; 4];
    tail[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
    gpu.guarded
        .scoped(|_| {
            let queue = &gpu.guarded.queue;
            if whole > 0 {
                queue.write_buffer(buffer, offset, &bytes[..whole]);
            }
            if whole < bytes.len() {
                queue.write_buffer(buffer, offset + whole as u64, &tail);
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_group_once() {
        for (groups, seconds) in [(1, 0.0), (65_535, 0.01), (65_536, 0.01), (1_000_003, 0.35), (7, 99.0)] {
            let parts = cut(groups, seconds, 65_535);
            let mut next = 0;
            for part in &parts {
                assert_eq!(u64::from(part.first), next);
                next = u64::from(part.end);
                let [x, y, z] = part.grid.map(u64::from);
                assert!(x <= 65_535 && y <= 65_535 && z == 1);
                assert!(x * y >= u64::from(part.end - part.first));
                // Groups past the end return at once; there are fewer than a row of them.
                assert!(x * y - u64::from(part.end - part.first) < y);
            }
            assert_eq!(next, groups);
        }
    }
}
