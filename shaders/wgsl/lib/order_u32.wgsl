// Unsigned integers have their own order.
fn order_key(value: Elem) -> u32 { return value; }

fn is_nan_key(key: u32) -> bool { return false; }
