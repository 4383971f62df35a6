// Read in f32, written in the tensors' element type: the second of two passes.
alias In = Lanes;
alias Out = Stored;
