// Indices of the boxes whose sides are long enough, in order, and their number. A box an invocation, which counts those
// before it; the others fill the rest with -1 from the end.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    min_size: f32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> boxes: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> kept: array<i32>;
@group(0) @binding(3) var<storage, read_write> count: array<i32>;

fn stays(i: u32) -> bool {
    let b = vec4<f32>(boxes[i]);
    return b.z - b.x >= params.min_size && b.w - b.y >= params.min_size;
}

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
    var before = 0u;
    for (var n = 0u; n < i; n++) {
        before += u32(stays(n));
    }
    let own = stays(i);
    if own {
        kept[before] = i32(i);
    } else {
        kept[params.len - 1u - (i - before)] = -1;
    }
    if i == params.len - 1u {
        count[0] = i32(before + u32(own));
    }
}
