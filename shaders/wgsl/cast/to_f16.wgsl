enable f16;
alias Out = f16;
fn convert(v: In) -> f16 { return f16(as_f32(v)); }
