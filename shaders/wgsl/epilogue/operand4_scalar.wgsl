@group(0) @binding(16) var<storage, read> operand4: array<Elem>;

// Elements index .. index + 3; lanes past the end repeat the last element, and nobody stores them.
fn operand4_load(index: u32) -> vec4<f32> {
    let i = min(vec4<u32>(index) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(arrayLength(&operand4) - 1u));
    return vec4<f32>(f32(operand4[i.x]), f32(operand4[i.y]), f32(operand4[i.z]), f32(operand4[i.w]));
}

fn operand4_scalar(index: u32) -> vec4<f32> {
    return vec4<f32>(f32(operand4[0]));
}
