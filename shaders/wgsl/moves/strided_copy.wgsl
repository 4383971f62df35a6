// y[to(i)] = x[from(i)] for every i of a box of up to eight axes, each with a stride in x and one in y: permutations,
// slices, broadcasts and the parts of a concatenation. An item an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    items: u32,
    x_start: u32,
    y_start: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
    // Innermost first: extent, stride in x, stride in y. Strides wrap, so that they can be negative.
    axis0: vec4<u32>,
    axis1: vec4<u32>,
    axis2: vec4<u32>,
    axis3: vec4<u32>,
    axis4: vec4<u32>,
    axis5: vec4<u32>,
    axis6: vec4<u32>,
    axis7: vec4<u32>,
}

override WORKGROUP = 64u;
override AXES = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Item>;
@group(0) @binding(2) var<storage, read_write> y: array<Item>;

// Takes the index along one axis off the rest: (what is left, place in x, place in y).
fn advance(walk: vec3<u32>, axis: vec4<u32>) -> vec3<u32> {
    let left = walk.x / axis.x;
    let i = walk.x - left * axis.x;
    return vec3<u32>(left, walk.y + i * axis.y, walk.z + i * axis.z);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = group_index(group, counts) * WORKGROUP + lane;
    if item >= params.items {
        return;
    }
    var walk = advance(vec3<u32>(item, params.x_start, params.y_start), params.axis0);
    if AXES > 1u { walk = advance(walk, params.axis1); }
    if AXES > 2u { walk = advance(walk, params.axis2); }
    if AXES > 3u { walk = advance(walk, params.axis3); }
    if AXES > 4u { walk = advance(walk, params.axis4); }
    if AXES > 5u { walk = advance(walk, params.axis5); }
    if AXES > 6u { walk = advance(walk, params.axis6); }
    if AXES > 7u { walk = advance(walk, params.axis7); }
    y[walk.z] = x[walk.y];
}
