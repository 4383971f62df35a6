// b of shape [depth, columns], of any extents.

@group(0) @binding(2) var<storage, read> b: array<Elem>;

// Rows past the end are zero.
fn b_row(start: u32, k: u32, column: u32) -> vec4<f32> {
    let row = start + min(k, params.depth - 1u) * params.columns;
    let i = row + min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
    return select(vec4<f32>(0.0), vec4<f32>(f32(b[i.x]), f32(b[i.y]), f32(b[i.z]), f32(b[i.w])), k < params.depth);
}

// Rows k .. k + 3 of columns column .. column + 3, a row a matrix column.
fn load_b(start: u32, k: u32, column: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        b_row(start, k, column), b_row(start, k + 1u, column), b_row(start, k + 2u, column), b_row(start, k + 3u, column),
    );
}
