// Four channels an invocation.
alias Stored = Elem4;
alias Lanes = vec4<f32>;
alias Bits = vec4<u32>;
alias Ints = vec4<i32>;
