alias In = u32;

fn as_f32(v: u32) -> f32 { return f32(v); }
fn as_i32(v: u32) -> i32 { return i32(min(v, 2147483647u)); }
fn as_u32(v: u32) -> u32 { return v; }
fn as_bool(v: u32) -> u32 { return select(0u, 1u, v != 0u); }
