// Sums of a part of the terms, [split][row][column] in f32, rows padded to a multiple of 4: `reduce_splits` adds them up.

@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;

// Stores columns column .. column + 3 of a row; rows count over all products and splits.
fn store4(row: u32, column: u32, value: vec4<f32>) {
    if column < params.columns {
        partial[row * ((params.columns + 3u) / 4u) + column / 4u] = value;
    }
}
