//! `timestep_embedding`: diffusers' `get_timestep_embedding`.

use kiln_graph::ops::TimestepEmbedding;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let t = case.input("t")?;
    let mut op = TimestepEmbedding::new(case.size("dim")?);
    op.dtype = case.dtype();
    // The function's own defaults.
    op.flip_sin_to_cos = case.opt_bool("flip_sin_to_cos")?.unwrap_or(false);
    op.downscale_freq_shift = case.opt_float("downscale_freq_shift")?.unwrap_or(1.0) as f32;
    op.scale = case.opt_float("scale")?.unwrap_or(1.0) as f32;
    op.max_period = case.opt_float("max_period")?.unwrap_or(10_000.0) as f32;
    let y = case.builder.timestep_embedding(t, op)?;
    case.output("y", y)
}
