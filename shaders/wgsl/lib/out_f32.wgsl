// Results are f32 whatever the inputs' type.
alias Out = f32;
