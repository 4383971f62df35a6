//! `matmul` and `linear`: `torch.matmul`, `torch.nn.functional.linear`.

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (a, b) = (case.input("a")?, case.input("b")?);
    let y = case.builder.matmul(a, b)?;
    case.output("y", y)
}

pub(super) fn build_linear(case: &mut OpCase) -> Result<(), VerifyError> {
    let (x, w) = (case.input("x")?, case.weight("w")?);
    let b = if case.has("b") { Some(case.weight("b")?) } else { None };
    let y = case.builder.linear(x, w, b)?;
    case.output("y", y)
}
