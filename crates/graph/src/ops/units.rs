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
