// i32 to u32, negative numbers to zero.
alias Target = u32;
fn converted(v: Elem) -> u32 { return u32(max(v, 0i)); }
