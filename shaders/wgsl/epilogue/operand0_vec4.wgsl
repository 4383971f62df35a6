@group(0) @binding(12) var<storage, read> operand0: array<Elem4>;

// Elements index .. index + 3; index is a multiple of 4.
fn operand0_load(index: u32) -> vec4<f32> {
    return vec4<f32>(operand0[index / 4u]);
}

fn operand0_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand0[0].x));
}
