// Rows of c of any length.

@group(0) @binding(3) var<storage, read_write> c: array<Elem>;

// Stores columns column .. column + 3, as far as there are any, of the row that element `index` lies in.
fn store4(index: u32, column: u32, value: vec4<f32>) {
    if column >= params.columns {
        return;
    }
    let v = epilogue(value, index, column);
    c[index] = Elem(v.x);
    if column + 1u < params.columns { c[index + 1u] = Elem(v.y); }
    if column + 2u < params.columns { c[index + 2u] = Elem(v.z); }
    if column + 3u < params.columns { c[index + 3u] = Elem(v.w); }
}
