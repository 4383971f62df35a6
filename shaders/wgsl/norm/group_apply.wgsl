// Group norm, third step: the normalised elements.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    channels: u32,
    // Elements an image has.
    image: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// As group_combine.wgsl writes them: three a load of channels.
@group(0) @binding(3) var<storage, read> statistics: array<vec4<f32>>;

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
    let at = (i / params.image * (params.channels / WIDTH) + column / WIDTH) * 3u;
    let deviation = x_load(i) - statistics[at] - statistics[at + 1u];
    y_store(i, epilogue(deviation * statistics[at + 2u], i, column));
}
