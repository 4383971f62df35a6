enable f16;
alias In = f16;

// By its bits: compilers may assume that there is no NaN.
fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }

fn as_f32(v: f16) -> f32 { return f32(v); }

// Towards zero, saturating; NaN is 0.
fn as_i32(half: f16) -> i32 {
    let v = f32(half);
    let whole = i32(clamp(v, -2147483648.0, 2147483520.0));
    return select(select(whole, 2147483647, v >= 2147483648.0), 0, is_nan(v));
}

fn as_u32(half: f16) -> u32 {
    let v = f32(half);
    let whole = u32(clamp(v, 0.0, 4294967040.0));
    return select(select(whole, 0xffffffffu, v >= 4294967296.0), 0u, is_nan(v));
}

fn as_bool(v: f16) -> u32 { return select(0u, 1u, (bitcast<u32>(f32(v)) & 0x7fffffffu) != 0u); }
