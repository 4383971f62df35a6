// y = convert(x): an element an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<In>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i < params.len {
        y[i] = convert(x[i]);
    }
}
