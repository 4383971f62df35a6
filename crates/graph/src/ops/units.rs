//! Units that most kernels link.

use kiln_shaders::{self as shaders, Unit};

use crate::{DType, Launch};

/// Iterations that all loops of an invocation may make together, nested ones counted each time.
///
/// Mesa's software device (llvmpipe) ends loops, without an error, once an invocation has made 65,535 iterations: its
/// counter is set once a function, and everything is inlined into one. A result is then wrong with no sign of it. A
/// kernel whose loops grow with a tensor's extents is therefore offered only below this, which leaves room for short
/// loops around; above, a workgroup shares the loop or several dispatches go on where the last one ended. On other
/// devices such a loop is slow in one invocation anyhow.
pub(crate) const MAX_LOOP_ITERATIONS: usize = 60_000;

/// Iterations over so many elements in runs of 64.
pub(crate) fn with_runs(len: usize) -> usize {
    len + len.div_ceil(64)
}

/// A launch whose invocations loop alone, so many iterations, and one whose workgroups share the loop, the better one
/// first; without the first where its loops are too long.
pub(crate) fn alone_or_shared(
    lane: Launch,
    workgroup: Launch,
    iterations: usize,
    lane_first: bool,
) -> Vec<Launch> {
    match (iterations > MAX_LOOP_ITERATIONS, lane_first) {
        (true, _) => vec![workgroup],
        (false, true) => vec![lane, workgroup],
        (false, false) => vec![workgroup, lane],
    }
}

/// The unit that defines `Elem` and `Elem4`.
pub(crate) fn elem(dtype: DType) -> Unit {
    match dtype {
        DType::F32 => shaders::ELEM_F32,
        DType::F16 => shaders::ELEM_F16,
        DType::I32 => shaders::ELEM_I32,
        DType::U32 | DType::Bool => shaders::ELEM_U32,
    }
}

/// The unit that defines `x`, `x_load` and `WIDTH`.
pub(crate) fn load(vec4: bool) -> Unit {
    if vec4 { shaders::LOAD_VEC4 } else { shaders::LOAD_SCALAR }
}

/// The unit that defines `y` and `y_store`.
pub(crate) fn store(vec4: bool) -> Unit {
    if vec4 { shaders::STORE_VEC4 } else { shaders::STORE_SCALAR }
}

/// The unit that defines `y`, `x_load` from it, `y_store` and `WIDTH`.
pub(crate) fn in_place(vec4: bool) -> Unit {
    if vec4 { shaders::IN_PLACE_VEC4 } else { shaders::IN_PLACE_SCALAR }
}

/// The unit that defines `Out`, the type of a result that is not its input's.
pub(crate) fn out(dtype: DType) -> Unit {
    if dtype == DType::F16 { shaders::OUT_F16 } else { shaders::OUT_F32 }
}
