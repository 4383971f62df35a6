// What a row's deviations are multiplied by, and the parameters that both row kernels share.

struct Params {
    first_group: u32,
    groups: u32,
    rows: u32,
    len: u32,
    eps: f32,
}

// 1 where the mean is taken off first (layer norm), 0 where not (RMS norm, L2).
override CENTRED = 1u;
// 1 where the row is divided by its length as a vector (L2), 0 where by its standard deviation.
override LENGTH = 0u;

@group(0) @binding(0) var<uniform> params: Params;

// From the sum of squares about some point, and how far the mean is from it.
fn rows_factor(squares: f32, offset: f32) -> f32 {
    if LENGTH != 0u {
        return 1.0 / max(sqrt(squares), params.eps);
    }
    let variance = max(squares / f32(params.len) - offset * offset, 0.0);
    return inverseSqrt(variance + params.eps);
}
