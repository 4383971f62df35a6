//! `roi_align`: torchvision's.

use kiln_graph::ops::RoiAlign;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (x, rois) = (case.image("x")?, case.input("rois")?);
    let op = RoiAlign {
        output_size: case.pair("output_size")?,
        spatial_scale: case.opt_float("spatial_scale")?.unwrap_or(1.0) as f32,
        // Nothing, 0 and -1 all mean as many as there are pixels.
        sampling_ratio: case.opt_int("sampling_ratio")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        aligned: case.opt_bool("aligned")?.unwrap_or(false),
    };
    let y = case.builder.roi_align(x, rois, op)?;
    case.image_output("y", y)
}
