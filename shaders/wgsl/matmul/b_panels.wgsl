// b packed in panels of 8 columns, [panel][depth][8], padded with zeros to whole panels and a depth of a multiple of 4.

@group(0) @binding(2) var<storage, read> b: array<Elem4>;

fn b_row(i: u32) -> vec4<f32> {
    return vec4<f32>(b[i]);
}

// Rows k .. k + 3 of columns column .. column + 3, a row a matrix column; k and column are multiples of 4.
fn load_b(start: u32, k: u32, column: u32) -> mat4x4<f32> {
    let depth = (params.depth + 3u) / 4u * 4u;
    let panel = min(column, params.columns - 1u) / 8u;
    let i = (panel * depth + k) * 2u + column / 4u % 2u;
    return mat4x4<f32>(b_row(i), b_row(i + 2u), b_row(i + 4u), b_row(i + 6u));
}
