// Index of the nearest code of each row, four rows an invocation.

override WORKGROUP = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (group_index(group, counts) * WORKGROUP + lane) * ROWS;
    if first >= params.rows {
        return;
    }
    let rows = starts(first);
    var nearest = vec4<f32>(FARTHEST);
    var found = vec4<u32>(0u);
    for (var code = 0u; code < params.codes; code++) {
        let far = distances(rows, code);
        found = select(found, vec4<u32>(code), far < nearest);
        nearest = min(nearest, far);
    }
    store(first, found);
}
