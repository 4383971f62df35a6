// Elementwise functions. Named as in PyTorch; all in f32.

const SQRT_HALF = 0.70710678118654752;

fn add(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a + b; }
fn sub(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a - b; }
fn mul(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a * b; }
fn div(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a / b; }
fn minimum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return min(a, b); }
fn maximum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return max(a, b); }

fn neg(x: vec4<f32>) -> vec4<f32> { return -x; }
fn affine(x: vec4<f32>, scale: f32, offset: f32) -> vec4<f32> { return x * scale + offset; }
fn clamped(x: vec4<f32>, low: f32, high: f32) -> vec4<f32> { return min(max(x, vec4<f32>(low)), vec4<f32>(high)); }
fn rsqrt(x: vec4<f32>) -> vec4<f32> { return inverseSqrt(x); }

fn relu(x: vec4<f32>) -> vec4<f32> { return max(x, vec4<f32>(0.0)); }
fn leaky_relu(x: vec4<f32>, slope: f32) -> vec4<f32> { return select(x * slope, x, x >= vec4<f32>(0.0)); }

// 1 / (1 + e^-x) by the half that does not overflow.
fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

fn silu(x: vec4<f32>) -> vec4<f32> { return x * sigmoid(x); }
fn quick_gelu(x: vec4<f32>) -> vec4<f32> { return x * sigmoid(1.702 * x); }

// Rational approximation of degree 13 over 6 on [-7.9, 7.9], as in Eigen's ptanh_float; within 2 ULP.
fn tanh_rational(x: vec4<f32>) -> vec4<f32> {
    let t = clamp(x, vec4<f32>(-7.90531110763549805), vec4<f32>(7.90531110763549805));
    let s = t * t;
    var p = s * -2.76076847742355e-16 + 2.00018790482477e-13;
    p = p * s - 8.60467152213735e-11;
    p = p * s + 5.12229709037114e-08;
    p = p * s + 1.48572235717979e-05;
    p = p * s + 6.37261928875436e-04;
    p = (p * s + 4.89352455891786e-03) * t;
    var q = s * 1.19825839466702e-06 + 1.18534705686654e-04;
    q = q * s + 2.26843463243900e-03;
    q = q * s + 4.89352518554385e-03;
    return p / q;
}

// Rational approximation of degree 13 over 8 on [-4, 4], as in Eigen's generic_fast_erf_float.
fn erf(x: vec4<f32>) -> vec4<f32> {
    let t = clamp(x, vec4<f32>(-4.0), vec4<f32>(4.0));
    let s = t * t;
    var p = s * -2.72614225801306e-10 + 2.77068142495902e-08;
    p = p * s - 2.10102402082508e-06;
    p = p * s - 5.69250639462346e-05;
    p = p * s - 7.34990630326855e-04;
    p = p * s - 2.95459980854025e-03;
    p = (p * s - 1.60960333262415e-02) * t;
    var q = s * -1.45660718464996e-05 - 2.13374055278905e-04;
    q = q * s - 1.68282697438203e-03;
    q = q * s - 7.37332916720468e-03;
    q = q * s - 1.42647390514189e-02;
    return p / q;
}

fn gelu(x: vec4<f32>) -> vec4<f32> { return 0.5 * x * (1.0 + erf(x * SQRT_HALF)); }

// Hendrycks and Gimpel's approximation of GELU.
fn gelu_tanh(x: vec4<f32>) -> vec4<f32> {
    return 0.5 * x * (1.0 + tanh_rational(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
