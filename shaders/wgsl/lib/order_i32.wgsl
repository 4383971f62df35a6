// Signed integers as unsigned ones of the same order.
fn order_key(value: Elem) -> u32 { return bitcast<u32>(value) ^ 0x80000000u; }

fn is_nan_key(key: u32) -> bool { return false; }
