//! `sine_position_2d`: DETR's sine positions.

use kiln_graph::ops::SinePosition2d;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let mask = case.input("mask")?;
    let mut op = SinePosition2d::detr(case.size("num_position_features")?);
    op.dtype = case.dtype();
    if let Some(temperature) = case.opt_float("temperature")? {
        op.temperature = temperature as f32;
    }
    if let Some(normalize) = case.opt_bool("normalize")? {
        op.normalize = normalize;
    }
    // A number, or "2*pi".
    match case.params().get("scale").and_then(|scale| scale.as_str()) {
        Some("2*pi") => {}
        _ => {
            if let Some(scale) = case.opt_float("scale")? {
                op.scale = scale as f32;
            }
        }
    }
    let y = case.builder.sine_position_2d(mask, op)?;
    case.image_output("y", y)
}
