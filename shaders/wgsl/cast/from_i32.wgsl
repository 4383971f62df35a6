alias In = i32;

fn as_f32(v: i32) -> f32 { return f32(v); }
fn as_i32(v: i32) -> i32 { return v; }
fn as_u32(v: i32) -> u32 { return u32(max(v, 0)); }
fn as_bool(v: i32) -> u32 { return select(0u, 1u, v != 0); }
