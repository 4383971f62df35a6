alias Elem = i32;
alias Elem4 = vec4<i32>;
