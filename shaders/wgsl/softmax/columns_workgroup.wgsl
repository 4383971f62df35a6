// Softmax along another axis than the last: x is [outer, len, inner], and a workgroup has a line, or four neighbours.

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

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = group_index(group, counts);
    if item >= params.groups {
        return;
    }
    let line = item * WIDTH;
    let start = line / params.inner * params.len * params.inner + line % params.inner;
    let end = start + params.len * params.inner;
    var highest = vec4<f32>(LOWEST);
    var magnitude = vec4<u32>(0u);
    for (var i = start + lane * params.inner; i < end; i += WORKGROUP * params.inner) {
        let v = x_load(i);
        highest = max(highest, v);
        magnitude = max(magnitude, magnitudes(v));
    }
    let largest = reduce_max_four(highest, lane);
    // Whether there is NaN, as numbers that survive arithmetic.
    let broken = vec4<f32>(magnitude > vec4<u32>(INFINITE));
    let any_broken = reduce_max_four(broken, lane) > vec4<f32>(0.0);
    var sums = vec4<f32>(0.0);
    for (var i = start + lane * params.inner; i < end; i += WORKGROUP * params.inner) {
        sums += exp(x_load(i) - largest);
    }
    let sum = reduce_sum_four(sums, lane);
    let none = has_none(select(vec4<u32>(0u), vec4<u32>(INFINITE + 1u), any_broken), largest, sum);
    for (var i = start + lane * params.inner; i < end; i += WORKGROUP * params.inner) {
        let value = select(softmax(x_load(i), largest, sum), not_a_number(i), none);
        y_store(i, epilogue(value, i, i % params.last));
    }
}
