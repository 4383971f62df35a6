// Softmax and its logarithm of a row, from its largest element and the sum of exponentials relative to it.

// 1 for the logarithm of softmax.
override LOGARITHM = 0u;

// Below every number that is not minus infinity; WGSL has no literal for that.
const LOWEST = -3.40282347e38;

// Bits of the numbers without their signs: NaN is above INFINITE.
fn magnitudes(v: vec4<f32>) -> vec4<u32> { return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu); }
const INFINITE = 0x7f800000u;

// Whether a row has no softmax: an element is NaN or plus infinity, or all are minus infinity.
fn has_none(magnitude: u32, largest: f32, sum: f32) -> bool {
    return magnitude > INFINITE || bitcast<u32>(largest) == INFINITE || sum == 0.0;
}

// NaN, of a number that the compiler does not know.
fn not_a_number(seed: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<f32>(0x7fc00000u | (seed & 1u)));
}

fn softmax(v: vec4<f32>, largest: f32, sum: f32) -> vec4<f32> {
    if LOGARITHM != 0u {
        return v - largest - log(sum);
    }
    return exp(v - largest) / sum;
}
