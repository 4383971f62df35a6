// Read in the tensors' element type, written in f32: the first of two passes.
alias In = Stored;
alias Out = Lanes;
