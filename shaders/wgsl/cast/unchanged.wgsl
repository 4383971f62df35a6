// The same number in the same type.
alias Target = Elem;
fn converted(v: Elem) -> Elem { return v; }
