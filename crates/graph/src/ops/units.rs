//! Units that most kernels link.

use kiln_shaders::{self as shaders, Unit};

use crate::DType;

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

/// The unit that defines `Out`, the type of a result that is not its input's.
pub(crate) fn out(dtype: DType) -> Unit {
    if dtype == DType::F16 { shaders::OUT_F16 } else { shaders::OUT_F32 }
}
