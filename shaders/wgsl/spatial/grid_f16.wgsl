enable f16;
// The points of a grid are f16.
alias Coordinate = f16;
