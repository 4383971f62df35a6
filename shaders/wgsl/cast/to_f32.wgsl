alias Out = f32;
fn convert(v: In) -> f32 { return as_f32(v); }
