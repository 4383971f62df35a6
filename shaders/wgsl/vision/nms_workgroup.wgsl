// Greedy suppression by one workgroup: it goes through the boxes in order, and where one stays, all invocations mark
// what it suppresses.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    threshold: f32,
    // Ranks of this dispatch; where they are not the first, the outputs have what those before left.
    first: u32,
    end: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> boxes: array<Elem4>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> kept: array<i32>;
@group(0) @binding(4) var<storage, read_write> count: array<i32>;
// Whether the box of each rank is suppressed.
@group(0) @binding(5) var<storage, read_write> suppressed: array<u32>;

var<workgroup> is_out: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if group_index(group, counts) >= params.groups {
        return;
    }
    var found = 0u;
    if params.first == 0u {
        for (var n = lane; n < params.len; n += WORKGROUP) {
            suppressed[n] = 0u;
            kept[n] = -1;
        }
    } else {
        found = u32(count[0]);
    }
    for (var n = params.first; n < params.end; n++) {
        storageBarrier();
        workgroupBarrier();
        if lane == 0u {
            is_out = suppressed[n];
        }
        if workgroupUniformLoad(&is_out) == 0u {
            let own = order[n];
            let box_own = vec4<f32>(boxes[own]);
            if lane == 0u {
                kept[found] = i32(own);
            }
            found += 1u;
            for (var m = n + 1u + lane; m < params.len; m += WORKGROUP) {
                let other = order[m];
                if compete(own, other) && iou(box_own, vec4<f32>(boxes[other])) > params.threshold {
                    suppressed[m] = 1u;
                }
            }
        }
    }
    if lane == 0u {
        count[0] = i32(found);
    }
}
