// Eight bytes of neighbouring elements, moved as bits.
alias Item = vec2<u32>;
