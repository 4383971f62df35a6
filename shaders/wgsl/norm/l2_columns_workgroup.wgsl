// Divides lines along another axis than the last by their Euclidean lengths: x is [outer, len, inner], and a
// workgroup has a line, or four neighbours.

struct Params {
    first_group: u32,
    groups: u32,
    // outer * inner.
    lines: u32,
    len: u32,
    inner: u32,
    // Extent of the last axis.
    last: u32,
    // Smallest divisor.
    eps: f32,
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
    var squares = vec4<f32>(0.0);
    for (var i = start + lane * params.inner; i < end; i += WORKGROUP * params.inner) {
        let v = x_load(i);
        squares += v * v;
    }
    let divisor = max(sqrt(reduce_sum_four(squares, lane)), vec4<f32>(params.eps));
    for (var i = start + lane * params.inner; i < end; i += WORKGROUP * params.inner) {
        y_store(i, epilogue(x_load(i) / divisor, i, i % params.last));
    }
}
