// Integers are compared as they are.
alias Comparable = Elem;
fn unordered(v: Elem) -> bool { return false; }
