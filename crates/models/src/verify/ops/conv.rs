//! `conv1d`, `conv2d` and `conv_transpose2d`: PyTorch's convolutions.

use kiln_graph::Value;
use kiln_graph::ops::{Conv1d, Conv2d, ConvTranspose2d, Padding};
use serde_json::Value as Json;

use crate::verify::{OpCase, VerifyError};

/// Padding's two words, where a word is given: whether it is `same`.
fn word(case: &OpCase) -> Result<Option<bool>, VerifyError> {
    match case.params().get("padding").and_then(Json::as_str) {
        None => Ok(None),
        Some("same") => Ok(Some(true)),
        Some("valid") => Ok(Some(false)),
        Some(other) => Err(VerifyError::Param {
            name: "padding".into(),
            reason: format!("is {other:?}, and should be \"same\", \"valid\" or integers"),
        }),
    }
}

fn padding(case: &OpCase) -> Result<Padding, VerifyError> {
    Ok(match word(case)? {
        Some(true) => Padding::Same,
        Some(false) => Padding::from(0),
        None => Padding::from(case.opt_pair("padding")?.unwrap_or([0; 2])),
    })
}

fn bias(case: &mut OpCase) -> Result<Option<Value>, VerifyError> {
    if case.has("b") { case.weight("b").map(Some) } else { Ok(None) }
}

/// The one number that a parameter of a sequence's op is, or stands in a list as.
fn single(case: &OpCase, name: &str, default: usize) -> Result<usize, VerifyError> {
    Ok(case.opt_pair(name)?.map_or(default, |[value, _]| value))
}

pub(super) fn build_1d(case: &mut OpCase) -> Result<(), VerifyError> {
    let padding = match word(case)? {
        Some(true) => None,
        Some(false) => Some([0; 2]),
        None => Some([single(case, "padding", 0)?; 2]),
    };
    let conv = Conv1d {
        stride: single(case, "stride", 1)?,
        dilation: single(case, "dilation", 1)?,
        padding,
        groups: case.opt_size("groups")?.unwrap_or(1),
    };
    let (x, w, b) = (case.image("x")?, case.weight("w")?, bias(case)?);
    let y = case.builder.conv1d(x, w, b, conv)?;
    case.image_output("y", y)
}

pub(super) fn build_2d(case: &mut OpCase) -> Result<(), VerifyError> {
    let conv = Conv2d {
        stride: case.opt_pair("stride")?.unwrap_or([1; 2]),
        dilation: case.opt_pair("dilation")?.unwrap_or([1; 2]),
        padding: padding(case)?,
        groups: case.opt_size("groups")?.unwrap_or(1),
        upsample: 1,
    };
    let (x, w, b) = (case.image("x")?, case.weight("w")?, bias(case)?);
    let y = case.builder.conv2d(x, w, b, conv)?;
    case.image_output("y", y)
}

pub(super) fn build_transpose2d(case: &mut OpCase) -> Result<(), VerifyError> {
    let conv = ConvTranspose2d {
        stride: case.opt_pair("stride")?.unwrap_or([1; 2]),
        dilation: case.opt_pair("dilation")?.unwrap_or([1; 2]),
        padding: case.opt_pair("padding")?.unwrap_or([0; 2]),
        output_padding: case.opt_pair("output_padding")?.unwrap_or([0; 2]),
        groups: case.opt_size("groups")?.unwrap_or(1),
    };
    let (x, w, b) = (case.image("x")?, case.weight("w")?, bias(case)?);
    let y = case.builder.conv_transpose2d(x, w, b, conv)?;
    case.image_output("y", y)
}
