// y = epilogue(x), four elements an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    quads: u32,
    quads_a_row: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem4>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quad = group_index(group, counts) * WORKGROUP + lane;
    if quad >= params.quads {
        return;
    }
    y[quad] = Elem4(epilogue(vec4<f32>(x[quad]), quad * 4u, quad % params.quads_a_row * 4u));
}
