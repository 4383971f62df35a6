//! `rope`: rotary embedding of `[batch, heads, length, dim]` by tables of shape `[length, dim / 2]`.

use kiln_graph::ops::Rope;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (x, cos, sin) = (case.input("x")?, case.weight("cos")?, case.weight("sin")?);
    let interleaved = match case.str("kind")?.as_str() {
        "rotate_half" => false,
        "interleaved" => true,
        other => return Err(VerifyError::Unsupported(format!("Kiln has no rotary embedding {other:?}"))),
    };
    let axis = case.builder.shape(x).len().saturating_sub(2);
    let y = case.builder.rope(x, cos, sin, Rope { axis, interleaved })?;
    case.output("y", y)
}
