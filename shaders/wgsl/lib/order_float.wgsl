// Floats as integers of the same order: both zeros are one, NaN is above infinity.
fn order_key(value: Elem) -> u32 {
    let bits = bitcast<u32>(f32(value));
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return 0xffffffffu;
    }
    if magnitude == 0u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// Whether a key is NaN's.
fn is_nan_key(key: u32) -> bool { return key == 0xffffffffu; }
