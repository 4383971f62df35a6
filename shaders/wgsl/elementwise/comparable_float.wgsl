// Floats are compared as f32; NaN is told by its bits.
alias Comparable = f32;
fn unordered(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }
