// u32 to i32, saturating.
alias Target = i32;
fn converted(v: Elem) -> i32 { return i32(min(v, 0x7fffffffu)); }
