// Index of the largest or smallest element of each line; the first of equals, a NaN before all. A line an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    lines: u32,
    len: u32,
    // Elements between neighbours of a line.
    inner: u32,
}

override WORKGROUP = 64u;
// 1 for the smallest.
override SMALLEST = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<i32>;

fn score(value: Elem) -> u32 {
    let key = order_key(value);
    if SMALLEST != 0u && !is_nan_key(key) {
        return ~key;
    }
    return key;
}

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
    let start = outer * params.len * params.inner + (line - outer * params.inner);
    var best = score(x[start]);
    var at = 0u;
    for (var i = 1u; i < params.len; i++) {
        let other = score(x[start + i * params.inner]);
        if other > best {
            best = other;
            at = i;
        }
    }
    y[line] = i32(at);
}
