//! `pixel_shuffle`: `torch.nn.functional.pixel_shuffle` and `pixel_unshuffle`.

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (kind, r) = (case.str("kind")?, case.size("r")?);
    let x = case.image("x")?;
    let y = match kind.as_str() {
        "shuffle" => case.builder.pixel_shuffle(x, r)?,
        "unshuffle" => case.builder.pixel_unshuffle(x, r)?,
        _ => return Err(VerifyError::Unsupported(format!("Kiln has no pixel shuffle {kind:?}"))),
    };
    case.image_output("y", y)
}
