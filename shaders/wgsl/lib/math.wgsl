// Elementwise functions. Named as in PyTorch; all in f32. NaN and infinities come out as in IEEE arithmetic: a driver may
// take comparisons with NaN either way, so NaN is told by its bits.

const SQRT_HALF = 0.70710678118654752;

// Bits of infinity. Those of NaN, without the sign, are above.
const INFINITE = 0x7f800000u;

// Bits of the numbers without their signs.
fn magnitudes(v: vec4<f32>) -> vec4<u32> { return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu); }

// x where it is NaN, y elsewhere.
fn keep_nan(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> { return select(y, x, magnitudes(x) > vec4<u32>(INFINITE)); }

// NaN and infinity. WGSL has no literals for them and refuses constants; these depend on numbers known at run time.
fn nan_from(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) | vec4<u32>(0x7fc00000u));
}
fn infinity_from(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) & vec4<u32>(0u)) | vec4<u32>(INFINITE));
}

fn add(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a + b; }
fn sub(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a - b; }
fn mul(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a * b; }
fn div(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a / b; }
fn minimum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return keep_nan(b, keep_nan(a, min(a, b))); }
fn maximum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return keep_nan(b, keep_nan(a, max(a, b))); }

fn neg(x: vec4<f32>) -> vec4<f32> { return -x; }
fn square(x: vec4<f32>) -> vec4<f32> { return x * x; }
fn reciprocal(x: vec4<f32>) -> vec4<f32> { return 1.0 / x; }
fn affine(x: vec4<f32>, scale: f32, offset: f32) -> vec4<f32> { return x * scale + offset; }
fn clamped(x: vec4<f32>, low: f32, high: f32) -> vec4<f32> {
    return keep_nan(x, min(max(x, vec4<f32>(low)), vec4<f32>(high)));
}
fn rsqrt(x: vec4<f32>) -> vec4<f32> { return inverseSqrt(x); }

fn relu(x: vec4<f32>) -> vec4<f32> { return keep_nan(x, max(x, vec4<f32>(0.0))); }
fn leaky_relu(x: vec4<f32>, slope: f32) -> vec4<f32> { return select(x * slope, x, x >= vec4<f32>(0.0)); }

// 2^n for whole n from -252 to 254 in two factors, neither of which overflows or is subnormal.
fn scale_by_power(x: vec4<f32>, n: vec4<f32>) -> vec4<f32> {
    let exponent = vec4<i32>(n);
    let half = exponent / vec4<i32>(2);
    let first = bitcast<vec4<f32>>((half + vec4<i32>(127)) << vec4<u32>(23u));
    let second = bitcast<vec4<f32>>((exponent - half + vec4<i32>(127)) << vec4<u32>(23u));
    return x * first * second;
}

// e^x - 1 for |x| < 0.35; polynomial of Cephes' expf.
fn expm1_small(x: vec4<f32>) -> vec4<f32> {
    var p = x * 1.9875691500e-4 + 1.3981999507e-3;
    p = p * x + 8.3334519073e-3;
    p = p * x + 4.1665795894e-2;
    p = p * x + 1.6666665459e-1;
    p = p * x + 5.0000001201e-1;
    return p * x * x + x;
}

// e^x to a unit or two in the last place; drivers' exp may be off by hundreds where x is large.
fn exponential(x: vec4<f32>) -> vec4<f32> {
    let t = clamp(x, vec4<f32>(-104.0), vec4<f32>(89.0));
    let n = round(t * 1.44269504088896341);
    // ln 2 in two parts, the first so short that its product with n is exact.
    let r = (t - n * 0.693359375) - n * -2.12194440e-4;
    return keep_nan(x, scale_by_power(1.0 + expm1_small(r), n));
}

// e^x - 1.
fn expm1(x: vec4<f32>) -> vec4<f32> {
    let small = abs(x) < vec4<f32>(0.34);
    return select(exponential(x) - 1.0, expm1_small(select(vec4<f32>(0.0), x, small)), small);
}

// Natural logarithm of (1 + m) for 1 + m from sqrt(1/2) to sqrt(2), the part beyond m; polynomial of Cephes' logf.
fn log1p_beyond(m: vec4<f32>) -> vec4<f32> {
    var p = m * 7.0376836292e-2 - 1.1514610310e-1;
    p = p * m + 1.1676998740e-1;
    p = p * m - 1.2420140846e-1;
    p = p * m + 1.4249322787e-1;
    p = p * m - 1.6668057665e-1;
    p = p * m + 2.0000714765e-1;
    p = p * m - 2.4999993993e-1;
    p = p * m + 3.3333331174e-1;
    return p * m * m * m;
}

// Natural logarithm.
fn logarithm(x: vec4<f32>) -> vec4<f32> {
    // Subnormal numbers, where the device keeps them, are brought into range.
    let tiny = x < vec4<f32>(1.17549435e-38);
    let bits = bitcast<vec4<u32>>(select(x, x * 16777216.0, tiny));
    var exponent = vec4<f32>(vec4<i32>(bits >> vec4<u32>(23u)) - vec4<i32>(126)) - select(vec4<f32>(0.0), vec4<f32>(24.0), tiny);
    let mantissa = bitcast<vec4<f32>>((bits & vec4<u32>(0x007fffffu)) | vec4<u32>(0x3f000000u));
    let low = mantissa < vec4<f32>(SQRT_HALF);
    exponent = select(exponent, exponent - 1.0, low);
    let m = select(mantissa - 1.0, (mantissa - 0.5) + (mantissa - 0.5), low);
    let y = log1p_beyond(m) + exponent * -2.12194440e-4 - 0.5 * m * m;
    var result = (m + y) + exponent * 0.693359375;
    result = select(result, -infinity_from(x), x == vec4<f32>(0.0));
    result = select(result, nan_from(x), x < vec4<f32>(0.0));
    // Infinity and NaN are their own logarithms.
    return select(result, x, bitcast<vec4<u32>>(x) == vec4<u32>(INFINITE) | (magnitudes(x) > vec4<u32>(INFINITE)));
}

// log(1 + x) for x from 0 to 1.
fn log1p_unit(x: vec4<f32>) -> vec4<f32> {
    let small = x < vec4<f32>(0.4);
    let m = select(vec4<f32>(0.0), x, small);
    return select(logarithm(1.0 + x), m - 0.5 * m * m + log1p_beyond(m), small);
}

// 1 / (1 + e^-x) by the half that does not overflow.
fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    let e = exponential(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

fn silu(x: vec4<f32>) -> vec4<f32> { return x * sigmoid(x); }
fn quick_gelu(x: vec4<f32>) -> vec4<f32> { return x * sigmoid(1.702 * x); }

// log(1 + e^-|x|).
fn log1p_exp(x: vec4<f32>) -> vec4<f32> { return keep_nan(x, log1p_unit(exponential(-abs(x)))); }

// log(1 + e^x).
fn softplus(x: vec4<f32>) -> vec4<f32> { return keep_nan(x, max(x, vec4<f32>(0.0)) + log1p_exp(x)); }

fn elu(x: vec4<f32>, alpha: f32) -> vec4<f32> { return select(alpha * expm1(x), x, x > vec4<f32>(0.0)); }
fn hardsigmoid(x: vec4<f32>) -> vec4<f32> { return clamped(x + 3.0, 0.0, 6.0) / 6.0; }
fn hardswish(x: vec4<f32>) -> vec4<f32> { return x * clamped(x + 3.0, 0.0, 6.0) / 6.0; }

// Rational approximation of degree 13 over 6 on [-7.9, 7.9], as in Eigen's ptanh_float; within 2 ULP. One beyond 9.
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
    return keep_nan(x, select(p / q, sign(x), abs(x) > vec4<f32>(9.0)));
}

fn mish(x: vec4<f32>) -> vec4<f32> { return x * tanh_rational(softplus(x)); }

// Rational approximation of degree 13 over 8 on [-4, 4], as in Eigen's generic_fast_erf_float. One beyond.
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
    return keep_nan(x, select(p / q, sign(x), abs(x) > vec4<f32>(4.0)));
}

// As PyTorch computes it on CPUs: beyond half of f32's range the product that is halved overflows, and infinities have no
// GELU.
fn gelu(x: vec4<f32>) -> vec4<f32> {
    let half = 0.5 * x * (1.0 + erf(x * SQRT_HALF));
    let y = select(half, infinity_from(x), x > vec4<f32>(1.70141173e38));
    return select(y, nan_from(x), magnitudes(x) >= vec4<u32>(INFINITE));
}

// Hendrycks and Gimpel's approximation of GELU.
fn gelu_tanh(x: vec4<f32>) -> vec4<f32> {
    return 0.5 * x * (1.0 + tanh_rational(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

// ---- sine and cosine

// The upper half of a product.
fn mul_high(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let cross = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let middle = (a & 0xffffu) * (b >> 16u) + (cross & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u);
}

// 1 / (2 pi) in 32-bit words, the first after a word of zeros.
fn inverse_turn(word: u32) -> u32 {
    switch word {
        case 0u: { return 0u; }
        case 1u: { return 0x28be60dbu; }
        case 2u: { return 0x9391054au; }
        case 3u: { return 0x7f09d5f4u; }
        case 4u: { return 0x7d4d3770u; }
        case 5u: { return 0x36d8a566u; }
        default: { return 0x4f10e410u; }
    }
}

// What is left of a number of at least 1 once multiples of pi / 2 are taken off, and how many, modulo 4 (Payne and Hanek
// 1983): the number's bits times as many bits of 1 / (2 pi) as matter.
fn reduce_large(x: f32) -> vec2<f32> {
    let bits = bitcast<u32>(x);
    let exponent = ((bits >> 23u) & 0xffu) - 126u;
    let mantissa = (bits << 8u) | 0x80000000u;
    let word = min(exponent >> 5u, 4u);
    let shift = exponent & 31u;
    var a = inverse_turn(word);
    var b = inverse_turn(word + 1u);
    var c = inverse_turn(word + 2u);
    if shift != 0u {
        let d = inverse_turn(word + 3u);
        a = (a << shift) | (b >> (32u - shift));
        b = (b << shift) | (c >> (32u - shift));
        c = (c << shift) | (d >> (32u - shift));
    }
    // 64 bits of the fraction of x / (2 pi), in two words.
    let carry = mul_high(mantissa, c);
    var low = mantissa * b + carry;
    var high = mul_high(mantissa, b) + select(0u, 1u, low < carry) + mantissa * a;
    var quarters = high >> 30u;
    high &= 0x3fffffffu;
    // To the nearest quarter: from -1/2 to 1/2 of one.
    let above = (high & 0x20000000u) != 0u;
    if above {
        quarters += 1u;
        low = ~low + 1u;
        high = (0x3fffffffu - high) + select(0u, 1u, low == 0u);
    }
    // In units of 2^-62 of a quarter.
    var rest = (f32(high) * 9.31322574615478516e-10 + f32(low) * 2.16840434497100887e-19) * 1.57079632679489662;
    rest = select(rest, -rest, above);
    if x < 0.0 {
        return vec2<f32>(-rest, f32((4u - quarters) & 3u));
    }
    return vec2<f32>(rest, f32(quarters & 3u));
}

// Sine of x + quarter * pi / 2. Polynomials of Cephes' sinf and cosf after a reduction that is exact for every number.
fn sine(x: vec4<f32>, quarter: i32) -> vec4<f32> {
    var n = round(x * 0.63661977236758134);
    // pi / 2 in three parts, the first two so short that their products with n are exact up to 1024.
    var r = ((x - n * 1.5703125) - n * 4.837512969970703125e-4) - n * 7.54978995489188216e-8;
    let large = abs(x) > vec4<f32>(1024.0);
    if any(large) {
        for (var i = 0; i < 4; i++) {
            if large[i] {
                let reduced = reduce_large(x[i]);
                r[i] = reduced.x;
                n[i] = reduced.y;
            }
        }
    }
    let s = r * r;
    let sines = ((s * -1.9515295891e-4 + 8.3321608736e-3) * s - 1.6666654611e-1) * s * r + r;
    let cosines = ((s * 2.443315711809948e-5 - 1.388731625493765e-3) * s + 4.166664568298827e-2) * s * s - 0.5 * s + 1.0;
    let turned = vec4<i32>(n) + vec4<i32>(quarter);
    let y = select(sines, cosines, (turned & vec4<i32>(1)) != vec4<i32>(0));
    let signed = select(y, -y, (turned & vec4<i32>(2)) != vec4<i32>(0));
    return select(signed, nan_from(x), magnitudes(x) >= vec4<u32>(INFINITE));
}

fn sin_reduced(x: vec4<f32>) -> vec4<f32> { return sine(x, 0); }
fn cos_reduced(x: vec4<f32>) -> vec4<f32> { return sine(x, 1); }

// ---- powers

// a^b as C's pow. Whole and broken parts of b log2 a are kept apart, so that large powers keep their digits.
fn power(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    let base = abs(a);
    // 2^exponent * (1 + m) with 1 + m near 1.
    let tiny = base < vec4<f32>(1.17549435e-38);
    let bits = bitcast<vec4<u32>>(select(base, base * 16777216.0, tiny));
    var exponent = vec4<f32>(vec4<i32>(bits >> vec4<u32>(23u)) - vec4<i32>(126)) - select(vec4<f32>(0.0), vec4<f32>(24.0), tiny);
    let mantissa = bitcast<vec4<f32>>((bits & vec4<u32>(0x007fffffu)) | vec4<u32>(0x3f000000u));
    let low = mantissa < vec4<f32>(SQRT_HALF);
    exponent = select(exponent, exponent - 1.0, low);
    let m = select(mantissa - 1.0, (mantissa - 0.5) + (mantissa - 0.5), low);
    let logarithm_m = m + (log1p_beyond(m) - 0.5 * m * m);
    // b log2 a = b exponent + b log2(1 + m), whole parts apart.
    let t = clamp(b, vec4<f32>(-1e6), vec4<f32>(1e6));
    let first = t * exponent;
    let whole = round(first);
    let second = (first - whole) + t * logarithm_m * 1.44269504088896341;
    let more = round(second);
    let n = clamp(whole + more, vec4<f32>(-250.0), vec4<f32>(250.0));
    let r = clamp(second - more, vec4<f32>(-0.5), vec4<f32>(0.5)) * 0.693147180559945309;
    var y = scale_by_power(1.0 + expm1_small(r), n);
    let infinity = infinity_from(a);
    let up = b > vec4<f32>(0.0);
    y = select(y, select(infinity, vec4<f32>(0.0), up), base == vec4<f32>(0.0));
    y = select(y, select(vec4<f32>(0.0), infinity, up), magnitudes(a) == vec4<u32>(INFINITE));
    // Infinite exponents.
    let grows = (base > vec4<f32>(1.0)) == up;
    let endless = magnitudes(b) == vec4<u32>(INFINITE);
    y = select(y, select(vec4<f32>(0.0), infinity, grows), endless);
    y = select(y, vec4<f32>(1.0), endless & (base == vec4<f32>(1.0)));
    // Negative bases have powers of whole numbers alone; those beyond 2^24 are even.
    let is_whole = floor(b) == b;
    let odd = is_whole & (floor(b * 0.5) * 2.0 != b) & (abs(b) < vec4<f32>(16777216.0));
    let negative = (bitcast<vec4<u32>>(a) >> vec4<u32>(31u)) != vec4<u32>(0u);
    y = select(y, -y, negative & odd);
    let finite = magnitudes(a) < vec4<u32>(INFINITE);
    y = select(y, nan_from(a), negative & finite & !is_whole & (base != vec4<f32>(0.0)));
    y = keep_nan(a, keep_nan(b, y));
    return select(y, vec4<f32>(1.0), (b == vec4<f32>(0.0)) | (a == vec4<f32>(1.0)));
}

// ---- rounding to narrower types

// To bfloat16, ties to even, kept as f32.
fn round_bf16(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let rounded = (bits + vec4<u32>(0x7fffu) + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))) & vec4<u32>(0xffff0000u);
    return keep_nan(x, bitcast<vec4<f32>>(rounded));
}

// To f16, ties to even, kept as f32: subnormals of f16 among them, and infinity beyond its range.
fn round_f16(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let rounded = bitcast<vec4<f32>>(
        (bits + vec4<u32>(0xfffu) + ((bits >> vec4<u32>(13u)) & vec4<u32>(1u))) & vec4<u32>(0xffffe000u));
    let subnormal = round(x * 16777216.0) * 5.9604644775390625e-8;
    let y = select(rounded, subnormal, abs(x) < vec4<f32>(6.103515625e-5));
    let infinity = infinity_from(x);
    let beyond = select(infinity, -infinity, x < vec4<f32>(0.0));
    return keep_nan(x, select(y, beyond, abs(y) > vec4<f32>(65504.0)));
}
