// Softmax along another axis than the last: x is [outer, len, inner], and an invocation has a line, or four neighbours.

struct Params {
    first_group: u32,
    groups: u32,
    // outer * inner.
    lines: u32,
    len: u32,
    inner: u32,
    // Extent of the last axis.
    last: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = (group_index(group, counts) * WORKGROUP + lane) * WIDTH;
    if line >= params.lines {
        return;
    }
    let start = line / params.inner * params.len * params.inner + line % params.inner;
    let end = start + params.len * params.inner;
    var largest = vec4<f32>(LOWEST);
    var magnitude = vec4<u32>(0u);
    for (var i = start; i < end; i += params.inner) {
        let v = x_load(i);
        largest = max(largest, v);
        magnitude = max(magnitude, magnitudes(v));
    }
    var sum = vec4<f32>(0.0);
    for (var i = start; i < end; i += params.inner) {
        sum += exp(x_load(i) - largest);
    }
    let none = has_none(magnitude, largest, sum);
    for (var i = start; i < end; i += params.inner) {
        let value = select(softmax(x_load(i), largest, sum), not_a_number(i), none);
        y_store(i, epilogue(value, i, i % params.last));
    }
}
