alias Out = f32;
fn convert(v: In) -> f32 { return as_f32(v); }
// To f32: floats exactly, integers to nearest, ties to even.
alias Target = f32;
fn converted(v: Elem) -> f32 { return f32(v); }
