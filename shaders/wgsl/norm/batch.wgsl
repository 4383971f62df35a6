// Batch normalisation by given statistics, one of each a channel; weight and bias are steps of the epilogue.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    channels: u32,
    eps: f32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> mean: array<Elem>;
@group(0) @binding(4) var<storage, read> variance: array<Elem>;

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
    let column = i % params.channels;
    // Components past WIDTH are not stored; their channel is any.
    let c = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u) % WIDTH;
    let centre = vec4<f32>(f32(mean[c.x]), f32(mean[c.y]), f32(mean[c.z]), f32(mean[c.w]));
    let spread = vec4<f32>(f32(variance[c.x]), f32(variance[c.y]), f32(variance[c.z]), f32(variance[c.w]));
    y_store(i, epilogue((x_load(i) - centre) * inverseSqrt(spread + params.eps), i, column));
}
