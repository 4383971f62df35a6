alias Out = i32;
fn convert(v: In) -> i32 { return as_i32(v); }
