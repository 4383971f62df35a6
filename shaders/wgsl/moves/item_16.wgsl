// Sixteen bytes of neighbouring elements, moved as bits.
alias Item = vec4<u32>;
