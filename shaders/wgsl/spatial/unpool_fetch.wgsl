// Max unpooling, third: every place fetches the pixel that won it, bits unchanged, or is zero.

struct Params {
    first_group: u32,
    groups: u32,
    elements: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.elements {
        return;
    }
    let winner = places[i];
    if winner == 0u {
        y[i] = Elem(0);
    } else {
        y[i] = x[winner - 1u];
    }
}
