// Rows of c whose length is a multiple of 4.

@group(0) @binding(3) var<storage, read_write> c: array<Elem4>;

// Stores columns column .. column + 3 of the row that element `index` lies in; both are multiples of 4.
fn store4(index: u32, column: u32, value: vec4<f32>) {
    if column < params.columns {
        c[index / 4u] = Elem4(epilogue(value, index, column));
    }
}
