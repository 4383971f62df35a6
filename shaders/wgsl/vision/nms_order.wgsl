// Boxes in the order of their scores, the highest first; of equals the first. A box an invocation, which counts the
// boxes before it.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    threshold: f32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<Elem>;
@group(0) @binding(2) var<storage, read_write> order: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.len {
        return;
    }
    let mine = order_key(scores[i]);
    var rank = 0u;
    for (var n = 0u; n < params.len; n++) {
        let other = order_key(scores[n]);
        rank += u32(other > mine || (other == mine && n < i));
    }
    order[rank] = i;
}
