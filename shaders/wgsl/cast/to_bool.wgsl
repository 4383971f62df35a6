alias Out = u32;
fn convert(v: In) -> u32 { return as_bool(v); }
