//! `selective_scan`: Mamba's, of `[batch, channels, length]`.

use kiln_graph::ops::ScanInputs;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let inputs = ScanInputs {
        u: case.input("u")?,
        delta: case.input("delta")?,
        a: case.weight("A")?,
        b: case.input("B")?,
        c: case.input("C")?,
        d: if case.has("D") { Some(case.weight("D")?) } else { None },
        z: if case.has("z") { Some(case.input("z")?) } else { None },
    };
    let softplus = case.opt_bool("delta_softplus")?.unwrap_or(false);
    let (y, last_state) = case.builder.selective_scan(inputs, true, softplus)?;
    case.output("y", y)?;
    case.output("last_state", last_state)
}
