//! `grid_sample`: `torch.nn.functional.grid_sample`.

use kiln_graph::ops::{GridSample, GridSampleMode, GridSamplePadding};

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let mode = case.opt_str("mode")?.unwrap_or_else(|| "bilinear".into());
    let mode = match mode.as_str() {
        "bilinear" => GridSampleMode::Bilinear,
        "nearest" => GridSampleMode::Nearest,
        "bicubic" => GridSampleMode::Bicubic,
        _ => return Err(VerifyError::Unsupported(format!("Kiln has no sampling {mode:?}"))),
    };
    let padding = case.opt_str("padding_mode")?.unwrap_or_else(|| "zeros".into());
    let padding_mode = match padding.as_str() {
        "zeros" => GridSamplePadding::Zeros,
        "border" => GridSamplePadding::Border,
        "reflection" => GridSamplePadding::Reflection,
        _ => return Err(VerifyError::Unsupported(format!("Kiln has no padding {padding:?}"))),
    };
    let align_corners = case.opt_bool("align_corners")?.unwrap_or(false);
    let (x, grid) = (case.image("x")?, case.input("grid")?);
    let y = case.builder.grid_sample(x, grid, GridSample { mode, padding_mode, align_corners })?;
    case.image_output("y", y)
}
