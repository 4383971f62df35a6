// Sums of each line's elements up to each. A line an invocation.

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

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = group_index(group, counts) * WORKGROUP + lane;
    if line >= params.lines {
        return;
    }
    let outer = line / params.inner;
    var at = outer * params.len * params.inner + (line - outer * params.inner);
    var before = Sum(0);
    // Runs of 64, so that rounding grows with the number of runs.
    for (var start = 0u; start < params.len; start += 64u) {
        var sum = Sum(0);
        for (var i = start; i < min(start + 64u, params.len); i++) {
            sum += Sum(x[at]);
            y[at] = Elem(before + sum);
            at += params.inner;
        }
        before += sum;
    }
}
