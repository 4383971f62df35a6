// y = epilogue(values * function(gates)), where a row of x is its values and then its gates, each `half` long.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    half: u32,
    // Where a row's values and gates begin.
    values: u32,
    gates: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_index(group, counts) * WORKGROUP + lane) * WIDTH;
    if i >= params.len {
        return;
    }
    let column = i % params.half;
    let start = i / params.half * params.half * 2u + column;
    y_store(i, epilogue(x_load(start + params.values) * gate(x_load(start + params.gates)), i, column));
}
