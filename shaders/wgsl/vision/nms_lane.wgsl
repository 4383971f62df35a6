// Greedy suppression by one invocation: a box stays where no kept one before it overlaps it by more than the threshold.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    threshold: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> boxes: array<Elem4>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> kept: array<i32>;
@group(0) @binding(4) var<storage, read_write> count: array<i32>;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) counts: vec3<u32>) {
    if group_index(group, counts) >= params.groups {
        return;
    }
    var found = 0u;
    for (var n = 0u; n < params.len; n++) {
        let own = order[n];
        let box_own = vec4<f32>(boxes[own]);
        var stays = true;
        for (var k = 0u; k < found && stays; k++) {
            let other = u32(kept[k]);
            if compete(other, own) && iou(vec4<f32>(boxes[other]), box_own) > params.threshold {
                stays = false;
            }
        }
        if stays {
            kept[found] = i32(own);
            found += 1u;
        }
    }
    for (var n = found; n < params.len; n++) {
        kept[n] = -1;
    }
    count[0] = i32(found);
}
