//! What the kernels over images share: lanes, workgroups, bindings.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::slabs::Slab;
use crate::{Dispatch, Source, Tier};

/// Channels of a load.
pub(crate) fn lanes(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

/// The unit that defines a load of so many channels.
pub(crate) fn lanes_unit(lanes: usize) -> Unit {
    if lanes == 4 { shaders::SPATIAL_LANES_VEC4 } else { shaders::SPATIAL_LANES_SCALAR }
}

/// Workgroups for this many loads, and their size.
pub(crate) fn groups(loads: usize, tier: &Tier) -> (u32, u64) {
    let workgroup = 64.min(tier.limits.max_invocations);
    (workgroup, (loads as u64).div_ceil(workgroup.into()))
}

/// Binds `x` and `y` as the slab says.
pub(crate) fn bind(dispatch: Dispatch, slab: &Slab) -> Dispatch {
    bind_to(dispatch, slab, Source::Input(0), Source::Output(0))
}

/// Binds other sources to `x` and `y` as the slab says.
pub(crate) fn bind_to(dispatch: Dispatch, slab: &Slab, x: Source, y: Source) -> Dispatch {
    let dispatch = match &slab.x {
        Some(range) => dispatch.bind_range("x", x, range.clone()),
        None => dispatch.bind("x", x),
    };
    match slab.y.first().cloned().flatten() {
        Some(range) => dispatch.bind_range("y", y, range),
        None => dispatch.bind("y", y),
    }
}

/// A table of words as bytes.
pub(crate) fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_le_bytes).collect()
}
