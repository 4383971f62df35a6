//! `pad`: `torch.nn.functional.pad`.

use kiln_graph::ops::PadMode;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let mode = case.opt_str("mode")?.unwrap_or_else(|| "constant".into());
    let mode = match mode.as_str() {
        "constant" => PadMode::Constant(case.opt_float("value")?.unwrap_or(0.0) as f32),
        "reflect" => PadMode::Reflect,
        "replicate" => PadMode::Replicate,
        "circular" => PadMode::Circular,
        _ => return Err(VerifyError::Unsupported(format!("Kiln has no padding {mode:?}"))),
    };
    let wrong = |reason: &str| VerifyError::Param { name: "pad".into(), reason: reason.into() };
    let list = case.ints("pad")?;
    let rank = case.desc("x")?.rank();
    if !list.len().is_multiple_of(2) || list.len() / 2 > rank {
        return Err(wrong("should have two numbers for each of at most all axes"));
    }
    // Before and after the last axis, then those of the axis before it.
    let mut pads = vec![[0, 0]; rank];
    for (pad, given) in pads.iter_mut().rev().zip(list.chunks_exact(2)) {
        *pad = [given[0], given[1]];
    }
    if let [batch, channels, height, width] = pads[..] {
        let x = case.image("x")?;
        let y = case.builder.pad(x, mode, [batch, height, width, channels])?;
        return case.image_output("y", y);
    }
    let x = case.input("x")?;
    let y = case.builder.pad(x, mode, pads)?;
    case.output("y", y)
}
