// c = epilogue(a b).

fn see_columns(left: mat4x4<f32>, right: mat4x4<f32>) {
}

fn store_row(row: u32, column: u32, left: vec4<f32>, right: vec4<f32>) {
    store4(row, column, left);
    store4(row, column + 4u, right);
}
