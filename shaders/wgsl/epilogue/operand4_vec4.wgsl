@group(0) @binding(16) var<storage, read> operand4: array<Elem4>;

// Elements index .. index + 3; index is a multiple of 4.
fn operand4_load(index: u32) -> vec4<f32> {
    return vec4<f32>(operand4[index / 4u]);
}

fn operand4_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand4[0].x));
}
