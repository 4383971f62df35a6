const ELEMENTS = 4u;

// By its bits: compilers may assume that there is no NaN.
fn excess_of(words: vec4<u32>, k: u32) -> u32 {
    let magnitude = words[k] & 0x7fffffffu;
    if magnitude <= params.limit {
        return 0u;
    }
    if magnitude > 0x7f800000u {
        return NOT_A_NUMBER | WIDE;
    }
    let sign = select(POSITIVE, NEGATIVE, (words[k] & 0x80000000u) != 0u);
    return select(sign, sign | WIDE, magnitude == 0x7f800000u);
}
