// Integers to truth values: whether they are not zero.
alias Target = u32;
fn converted(v: Elem) -> u32 { return select(1u, 0u, v == Elem(0)); }
