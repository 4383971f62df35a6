enable f16;
alias Out = f16;
fn convert(v: In) -> f16 { return f16(as_f32(v)); }
// To f16, ties to even: rounded first, since devices may round conversions as they like.
alias Target = f16;
fn converted(v: Elem) -> f16 { return f16(round_f16(vec4<f32>(f32(v))).x); }
