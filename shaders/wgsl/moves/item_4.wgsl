// Four bytes: one element, or two of f16. Moved as bits, so that NaNs and denormals keep theirs.
alias Item = u32;
