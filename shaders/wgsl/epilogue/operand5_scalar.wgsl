@group(0) @binding(17) var<storage, read> operand5: array<Elem>;

// Elements index .. index + 3; lanes past the end repeat the last element, and nobody stores them.
fn operand5_load(index: u32) -> vec4<f32> {
    let i = min(vec4<u32>(index) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(arrayLength(&operand5) - 1u));
    return vec4<f32>(f32(operand5[i.x]), f32(operand5[i.y]), f32(operand5[i.z]), f32(operand5[i.w]));
}

fn operand5_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand5[0]));
}
