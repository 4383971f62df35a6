// y[outer, i, inner] = x[outer, ids[outer, i, inner], inner]. An element an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    items: u32,
    run: u32,
    // Extent of the axis in ids and y.
    ids: u32,
    // Extent of the axis in x.
    extent: u32,
    // Whether the indices are signed.
    signed: u32,
    // Indices that this dispatch serves, and the item at which its part of x begins.
    first: u32,
    end: u32,
    origin: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Item>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Item>;

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
    let row = item / params.run;
    let inner = item - row * params.run;
    let outer = row / params.ids;
    // Indices outside of the axis go to its nearer end.
    var id = ids[item];
    if params.signed != 0u && id >= 0x80000000u {
        id = 0u;
    }
    id = min(id, params.extent - 1u);
    if id < params.first || id >= params.end {
        return;
    }
    y[item] = x[(outer * params.extent + id) * params.run + inner - params.origin];
}
