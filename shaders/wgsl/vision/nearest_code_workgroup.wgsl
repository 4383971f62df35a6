// Index of the nearest code of each row, four rows a workgroup, whose size is a power of two of at most 256: its
// invocations share the codes.

override WORKGROUP = 64u;

var<workgroup> lanes_nearest: array<vec4<f32>, 256>;
var<workgroup> lanes_found: array<vec4<u32>, 256>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, counts);
    if index >= params.groups {
        return;
    }
    let first = index * ROWS;
    let rows = starts(first);
    var nearest = vec4<f32>(FARTHEST);
    // Behind every code, so that it loses each tie.
    var found = vec4<u32>(params.codes);
    for (var code = lane; code < params.codes; code += WORKGROUP) {
        let far = distances(rows, code);
        found = select(found, vec4<u32>(code), far < nearest);
        nearest = min(nearest, far);
    }
    lanes_nearest[lane] = nearest;
    lanes_found[lane] = found;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let mine = lanes_nearest[lane];
            let far = lanes_nearest[lane + half];
            let own = lanes_found[lane];
            let other = lanes_found[lane + half];
            let better = (far < mine) | ((far == mine) & (other < own));
            lanes_nearest[lane] = select(mine, far, better);
            lanes_found[lane] = select(own, other, better);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        // Where no distance is a number, the first code.
        let codes = lanes_found[0];
        store(first, select(codes, vec4<u32>(0u), codes >= vec4<u32>(params.codes)));
    }
}
