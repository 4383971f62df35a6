// Sums of each line's elements up to each. A line a workgroup of at most 256: each invocation sums a stretch, then adds
// the stretches before its own.

struct Params {
    first_group: u32,
    groups: u32,
    lines: u32,
    len: u32,
    // Elements between neighbours of a line.
    inner: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

var<workgroup> stretches: array<Sum, 256>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = group_index(group, counts);
    if line >= params.groups {
        return;
    }
    let outer = line / params.inner;
    let start = outer * params.len * params.inner + (line - outer * params.inner);
    let stretch = (params.len + WORKGROUP - 1u) / WORKGROUP;
    let first = min(lane * stretch, params.len);
    let end = min(first + stretch, params.len);
    var sum = Sum(0);
    for (var i = first; i < end; i++) {
        sum += Sum(x[start + i * params.inner]);
    }
    stretches[lane] = sum;
    workgroupBarrier();
    var before = Sum(0);
    for (var i = 0u; i < lane; i++) {
        before += stretches[i];
    }
    sum = Sum(0);
    for (var i = first; i < end; i++) {
        let at = start + i * params.inner;
        sum += Sum(x[at]);
        y[at] = Elem(before + sum);
    }
}
