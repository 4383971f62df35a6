//! `interpolate`: `torch.nn.functional.interpolate` of images and of sequences.

use kiln_graph::Value;
use kiln_graph::ops::{Interpolate, InterpolateMode, InterpolateTo};

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let mode = case.str("mode")?;
    let mode = match mode.as_str() {
        "nearest" => InterpolateMode::Nearest,
        "nearest-exact" => InterpolateMode::NearestExact,
        "linear" | "bilinear" => InterpolateMode::Bilinear,
        "bicubic" => InterpolateMode::Bicubic,
        "area" => InterpolateMode::Area,
        _ => return Err(VerifyError::Unsupported(format!("Kiln has no interpolation {mode:?}"))),
    };
    let sequence = match case.desc("x")?.rank() {
        3 => true,
        4 => false,
        rank => return Err(VerifyError::Unsupported(format!("Kiln resizes no tensors of {rank} axes"))),
    };
    let recompute = case.opt_bool("recompute_scale_factor")?.unwrap_or(false);
    // A sequence is an image of one row.
    let to = match (case.opt_pair("size")?, case.opt_float_pair("scale_factor")?) {
        (Some([_, width]), _) if sequence => InterpolateTo::Size([1, width]),
        (Some(size), _) => InterpolateTo::Size(size),
        (None, Some([_, width])) if sequence => {
            InterpolateTo::ScaleFactor { factor: [1.0, width], recompute }
        }
        (None, Some(factor)) => InterpolateTo::ScaleFactor { factor, recompute },
        (None, None) => {
            return Err(VerifyError::Param { name: "size".into(), reason: "is missing".into() });
        }
    };
    let how = Interpolate {
        mode,
        to,
        align_corners: case.opt_bool("align_corners")?.unwrap_or(false),
        antialias: case.opt_bool("antialias")?.unwrap_or(false),
    };
    let x = case.image("x")?;
    let y = if sequence { resize_sequence(case, x, how)? } else { case.builder.interpolate(x, how)? };
    case.image_output("y", y)
}

fn resize_sequence(case: &mut OpCase, x: Value, how: Interpolate) -> Result<Value, VerifyError> {
    let &[batch, length, channels] = case.builder.shape(x) else {
        return Err(VerifyError::Tensor { name: "x".into(), reason: "is no sequence".into() });
    };
    let x = case.builder.reshape(x, [batch, 1, length, channels])?;
    let y = case.builder.interpolate(x, how)?;
    let length = case.builder.shape(y).get(2).copied().unwrap_or(0);
    Ok(case.builder.reshape(y, [batch, length, channels])?)
}
