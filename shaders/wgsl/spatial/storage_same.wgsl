// Read and written in the tensors' element type.
alias In = Stored;
alias Out = Stored;
