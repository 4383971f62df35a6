//! `embedding`: `torch.nn.functional.embedding`.

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (ids, w) = (case.input("ids")?, case.weight("w")?);
    let y = case.builder.embedding(ids, w)?;
    case.output("y", y)
}
