// b of shape [depth, columns], columns a multiple of 4.

@group(0) @binding(2) var<storage, read> b: array<Elem4>;

// Rows past the end are zero.
fn b_row(start: u32, k: u32, column: u32) -> vec4<f32> {
    let row = vec4<f32>(b[(start + min(k, params.depth - 1u) * params.columns + column) / 4u]);
    return select(vec4<f32>(0.0), row, k < params.depth);
}

// Rows k .. k + 3 of columns column .. column + 3, a row a matrix column; column is a multiple of 4.
fn load_b(start: u32, k: u32, column: u32) -> mat4x4<f32> {
    let c = min(column, params.columns - 4u);
    return mat4x4<f32>(
        b_row(start, k, c), b_row(start, k + 1u, c), b_row(start, k + 2u, c), b_row(start, k + 3u, c),
    );
}
