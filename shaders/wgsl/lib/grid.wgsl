// A workgroup's place in a kernel's run of groups. The engine folds the run into a grid (65,535 groups a dimension) and
// may cut it into several dispatches; a kernel returns where the place is not below params.groups.
fn group_index(group: vec3<u32>, counts: vec3<u32>) -> u32 {
    return params.first_group + group.x + group.y * counts.x;
}
