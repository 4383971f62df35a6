// Sums of integers are made in their own type.
alias Sum = Elem;
