// Of products of vectors, the rows, and codes, the columns: the least score and the least of the most ones, of each vector
// and the codes of a tile. A workgroup is one subgroup.

@group(0) @binding(3) var<storage, read_write> bounds: array<vec2<f32>>;

// Squared lengths of a lane's codes.
var<private> left_squares: vec4<f32>;
var<private> right_squares: vec4<f32>;

fn see_columns(left: mat4x4<f32>, right: mat4x4<f32>) {
    left_squares += left[0] * left[0] + left[1] * left[1] + left[2] * left[2] + left[3] * left[3];
    right_squares += right[0] * right[0] + right[1] * right[1] + right[2] * right[2] + right[3] * right[3];
}

fn least4(scores: vec4<f32>) -> f32 {
    return min(min(scores.x, scores.y), min(scores.z, scores.w));
}

fn store_row(row: u32, column: u32, left: vec4<f32>, right: vec4<f32>) {
    let below = 0.5 - slack(params.depth);
    let above = 0.5 + 3.0 * slack(params.depth);
    let least = least4(min(below * left_squares - left, below * right_squares - right));
    let most = least4(min(above * left_squares - left, above * right_squares - right));
    let tile = subgroupMin(vec2<f32>(least, most));
    if column / 8u % LANES == 0u {
        bounds[row * params.column_tiles + column / (8u * LANES)] = tile;
    }
}
