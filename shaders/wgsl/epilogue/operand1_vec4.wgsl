@group(0) @binding(13) var<storage, read> operand1: array<Elem4>;

// Elements index .. index + 3; index is a multiple of 4.
fn operand1_load(index: u32) -> vec4<f32> {
    return vec4<f32>(operand1[index / 4u]);
}

fn operand1_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand1[0].x));
}
