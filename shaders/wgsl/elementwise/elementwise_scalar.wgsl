// y = epilogue(x), an element an invocation: for rows whose length is not a multiple of 4.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    row: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.len {
        return;
    }
    y[i] = Elem(epilogue(vec4<f32>(f32(x[i])), i, i % params.row).x);
}
