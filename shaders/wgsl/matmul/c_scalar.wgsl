// A result whose rows have any length.

@group(0) @binding(3) var<storage, read_write> c: array<Elem>;

// Stores columns column .. column + 3, as far as there are any, of a row; rows count over all products.
fn store4(row: u32, column: u32, value: vec4<f32>) {
    if column >= params.columns {
        return;
    }
    let index = params.c_start + row * params.c_stride + params.c_column + column;
    let v = epilogue(value, index, params.c_column + column);
    c[index] = Elem(v.x);
    if column + 1u < params.columns { c[index + 1u] = Elem(v.y); }
    if column + 2u < params.columns { c[index + 2u] = Elem(v.z); }
    if column + 3u < params.columns { c[index + 3u] = Elem(v.w); }
}
