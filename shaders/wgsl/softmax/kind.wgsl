// Softmax or its logarithm, from the largest number and the sum of exponentials relative to it.

// 1 for the logarithm of softmax.
override LOGARITHM = 0u;

// Below every number but minus infinity, for which WGSL has no literal.
const LOWEST = -3.40282347e38;

// Where there is no softmax: an element is NaN or plus infinity, or all are minus infinity.
fn has_none(magnitude: vec4<u32>, largest: vec4<f32>, sum: vec4<f32>) -> vec4<bool> {
    let broken = magnitude > vec4<u32>(INFINITE);
    return broken | (bitcast<vec4<u32>>(largest) == vec4<u32>(INFINITE)) | (sum == vec4<f32>(0.0));
}

// NaN, by a number that the compiler does not know.
fn not_a_number(seed: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<f32>(0x7fc00000u | (seed & 1u)));
}

fn softmax(v: vec4<f32>, largest: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    if LOGARITHM != 0u {
        return v - largest - log(sum);
    }
    return exp(v - largest) / sum;
}
