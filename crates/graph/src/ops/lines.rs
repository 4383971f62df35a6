//! Lines of a tensor along one axis.

use kiln_shaders::{self as shaders, Unit};

use crate::{DType, Tier};

/// A tensor as `[outer, len, inner]`, around one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    /// Extents before the axis.
    pub outer: usize,
    /// The axis's own.
    pub len: usize,
    /// Extents behind it: elements between neighbours of a line.
    pub inner: usize,
}

impl Lines {
    /// The lines along axis `axis`, where there is one.
    pub fn along(shape: &[usize], axis: usize) -> Option<Self> {
        Some(Self {
            len: *shape.get(axis)?,
            outer: shape[..axis].iter().product(),
            inner: shape[axis + 1..].iter().product(),
        })
    }

    /// Number of lines.
    pub fn count(&self) -> usize {
        self.outer * self.inner
    }

    /// The first element of line `line`; the others are `inner` apart.
    pub fn start(&self, line: usize) -> usize {
        line / self.inner * self.len * self.inner + line % self.inner
    }

    /// Whether a line a workgroup is likely faster than a line an invocation.
    pub fn want_workgroups(&self, tier: &Tier) -> bool {
        !tier.software && self.len >= 32 && !(self.inner >= 16 && self.count() >= 4096)
    }
}

/// The largest power of two of invocations that fills a workgroup for lines of this length, from 32 to 256.
pub(super) fn workgroup_for(len: usize, tier: &Tier) -> u32 {
    let want = (len as u32).min(256).next_power_of_two().clamp(32, 256);
    let most = tier.limits.max_invocations.max(1);
    want.min(1 << most.ilog2())
}

/// The unit that orders elements of a type.
pub(super) fn order(dtype: DType) -> Unit {
    match dtype {
        DType::F32 | DType::F16 => shaders::ORDER_FLOAT,
        DType::I32 => shaders::ORDER_I32,
        DType::U32 | DType::Bool => shaders::ORDER_U32,
    }
}

/// Order of two numbers with NaN above all, and both zeros equal.
pub(super) fn compare(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
