enable f16;
// A 2-byte element: only where nothing wider fits, since f16 is the one type of that size.
alias Item = f16;
