// Floats to i32: towards zero, saturating, NaN to zero.
alias Target = i32;
fn converted(v: Elem) -> i32 {
    let number = f32(v);
    if (bitcast<u32>(number) & 0x7fffffffu) > 0x7f800000u {
        return 0i;
    }
    if number >= 2147483648.0 {
        return bitcast<i32>(0x7fffffffu);
    }
    if number <= -2147483648.0 {
        return bitcast<i32>(0x80000000u);
    }
    return i32(number);
}
