const ELEMENTS = 8u;

// The largest number counts as beyond: a device may round what is larger down to it.
fn excess_of(words: vec4<u32>, k: u32) -> u32 {
    let bits = words[k / 2u] >> (16u * (k % 2u));
    let magnitude = bits & 0x7fffu;
    if magnitude < 0x7bffu {
        return 0u;
    }
    if magnitude > 0x7c00u {
        return NOT_A_NUMBER;
    }
    return select(POSITIVE, NEGATIVE, (bits & 0x8000u) != 0u);
}
