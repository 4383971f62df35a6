// A result whose rows have a length that is a multiple of 4.

@group(0) @binding(3) var<storage, read_write> c: array<Elem4>;

// Stores columns column .. column + 3 of a row; rows count over all products, and column is a multiple of 4.
fn store4(row: u32, column: u32, value: vec4<f32>) {
    if column >= params.columns {
        return;
    }
    let index = params.c_start + row * params.c_stride + params.c_column + column;
    c[index / 4u] = Elem4(epilogue(value, index, params.c_column + column));
}
