// b of shape [columns, depth], of any extents; what lies past the end of the depth is zero.

@group(0) @binding(2) var<storage, read> b: array<Elem>;

fn b_column(start: u32, k: u32, column: u32) -> vec4<f32> {
    let at = k + vec4<u32>(0u, 1u, 2u, 3u);
    let i = start + min(column, params.columns - 1u) * params.depth + min(at, vec4<u32>(params.depth - 1u));
    let values = vec4<f32>(f32(b[i.x]), f32(b[i.y]), f32(b[i.z]), f32(b[i.w]));
    return select(vec4<f32>(0.0), values, at < vec4<u32>(params.depth));
}

// Rows k .. k + 3 of columns column .. column + 3, a row a matrix column.
fn load_b(start: u32, k: u32, column: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        b_column(start, k, column),
        b_column(start, k, column + 1u),
        b_column(start, k, column + 2u),
        b_column(start, k, column + 3u),
    ));
}
