@group(0) @binding(15) var<storage, read> operand3: array<Elem4>;

// Elements index .. index + 3; index is a multiple of 4.
fn operand3_load(index: u32) -> vec4<f32> {
    return vec4<f32>(operand3[index / 4u]);
}

fn operand3_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand3[0].x));
}
