// A channel an invocation: for channel counts that are not multiples of 4.
alias Stored = Elem;
alias Lanes = f32;
alias Bits = u32;
alias Ints = i32;
