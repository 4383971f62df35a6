// The points of a grid are f32.
alias Coordinate = f32;
