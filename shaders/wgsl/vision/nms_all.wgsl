// All boxes suppress each other.
fn compete(a: u32, b: u32) -> bool { return true; }
