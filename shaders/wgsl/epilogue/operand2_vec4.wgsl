@group(0) @binding(14) var<storage, read> operand2: array<Elem4>;

// Elements index .. index + 3; index is a multiple of 4.
fn operand2_load(index: u32) -> vec4<f32> {
    return vec4<f32>(operand2[index / 4u]);
}

fn operand2_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand2[0].x));
}
