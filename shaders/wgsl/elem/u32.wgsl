alias Elem = u32;
alias Elem4 = vec4<u32>;
