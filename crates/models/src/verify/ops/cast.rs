//! `cast`: `Tensor.to`.

use kiln_graph::DType;
use kiln_graph::ops::Unary;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let x = case.input("x")?;
    let y = match case.str("to")?.as_str() {
        "float32" => case.builder.cast(x, DType::F32)?,
        // Rounded, but kept as f32: bfloat16 is no type of the graph's, and not every device has f16.
        "float16" => case.builder.unary(Unary::RoundF16, x)?,
        "bfloat16" => case.builder.unary(Unary::RoundBf16, x)?,
        "int32" | "int64" => case.builder.cast(x, DType::I32)?,
        "uint32" => case.builder.cast(x, DType::U32)?,
        "bool" => case.builder.cast(x, DType::Bool)?,
        to => return Err(VerifyError::Unsupported(format!("Kiln does not cast to {to:?}"))),
    };
    case.output("y", y)
}
