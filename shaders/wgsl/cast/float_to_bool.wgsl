// Floats to truth values: whether they are not zero; NaN is not.
alias Target = u32;
fn converted(v: Elem) -> u32 { return select(0u, 1u, (bitcast<u32>(f32(v)) & 0x7fffffffu) != 0u); }
