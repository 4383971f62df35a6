@group(0) @binding(17) var<storage, read> operand5: array<Elem4>;

// Elements index .. index + 3; index is a multiple of 4.
fn operand5_load(index: u32) -> vec4<f32> {
    return vec4<f32>(operand5[index / 4u]);
}

fn operand5_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand5[0].x));
}
