// b of shape [columns, depth], depth a multiple of 4.

@group(0) @binding(2) var<storage, read> b: array<Elem4>;

fn b_column(start: u32, k: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(b[(start + min(column, params.columns - 1u) * params.depth + k) / 4u]);
}

// Rows k .. k + 3 of columns column .. column + 3, a row a matrix column; k is a multiple of 4.
fn load_b(start: u32, k: u32, column: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        b_column(start, k, column),
        b_column(start, k, column + 1u),
        b_column(start, k, column + 2u),
        b_column(start, k, column + 3u),
    ));
}
