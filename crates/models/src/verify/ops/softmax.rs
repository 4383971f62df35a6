//! `softmax`: `torch.softmax` and `torch.log_softmax`.

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let axis = case.opt_int("dim")?.unwrap_or(-1) as isize;
    let x = case.input("x")?;
    let y = match case.opt_str("kind")?.as_deref() {
        None | Some("softmax") => case.builder.softmax(x, axis)?,
        Some("log_softmax") => case.builder.log_softmax(x, axis)?,
        Some(kind) => return Err(VerifyError::Unsupported(format!("Kiln has no {kind:?}"))),
    };
    case.output("y", y)
}
