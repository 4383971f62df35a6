enable f16;
// Results are f16 whatever the inputs' type.
alias Out = f16;
