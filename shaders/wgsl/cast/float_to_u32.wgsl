// Floats to u32: towards zero, saturating, NaN to zero.
alias Target = u32;
fn converted(v: Elem) -> u32 {
    let number = f32(v);
    if (bitcast<u32>(number) & 0x7fffffffu) > 0x7f800000u || number <= 0.0 {
        return 0u;
    }
    if number >= 4294967296.0 {
        return 0xffffffffu;
    }
    return u32(number);
}
