alias Elem = f32;
alias Elem4 = vec4<f32>;
