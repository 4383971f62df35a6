// Sums of floats are made in f32.
alias Sum = f32;
