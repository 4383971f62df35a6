@group(0) @binding(13) var<storage, read> operand1: array<Elem>;

// Elements index .. index + 3; lanes past the end repeat the last element, and nobody stores them.
fn operand1_load(index: u32) -> vec4<f32> {
    let i = min(vec4<u32>(index) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(arrayLength(&operand1) - 1u));
    return vec4<f32>(f32(operand1[i.x]), f32(operand1[i.y]), f32(operand1[i.z]), f32(operand1[i.w]));
}

fn operand1_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand1[0]));
}
