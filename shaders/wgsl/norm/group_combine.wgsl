// Group norm, second step: from the channels' statistics those of a group, by a workgroup (Chan, Golub and LeVeque 1979).

struct Params {
    first_group: u32,
    groups: u32,
    pixels: u32,
    channels: u32,
    // Channels that are normalised together.
    members: u32,
    runs: u32,
    run: u32,
    // Channels a load has.
    width: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// As group_statistics.wgsl writes them, a component at a time: 12 a load of channels.
@group(0) @binding(1) var<storage, read> partials: array<f32>;
// For each image and load of channels: a number near the mean, what is missing from it, and the factor.
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = group_index(group, counts);
    if item >= params.groups {
        return;
    }
    let sets = params.channels / params.members;
    let image = item / sets;
    let first_channel = item % sets * params.members;
    let loads = params.channels / params.width;
    let base = image * params.runs * loads * 12u;
    let near = partials[base + first_channel / params.width * 12u + first_channel % params.width];
    let total = f32(params.pixels) * f32(params.members);
    var sum = 0.0;
    for (var i = lane; i < params.runs * params.members; i += WORKGROUP) {
        let run = i / params.members;
        let channel = first_channel + i % params.members;
        let at = base + (run * loads + channel / params.width) * 12u + channel % params.width;
        let count = f32(min(params.run, params.pixels - run * params.run));
        sum += count * (partials[at] - near + partials[at + 4u]);
    }
    let mean = reduce_sum(sum, lane) / total;
    var squares = 0.0;
    for (var i = lane; i < params.runs * params.members; i += WORKGROUP) {
        let run = i / params.members;
        let channel = first_channel + i % params.members;
        let at = base + (run * loads + channel / params.width) * 12u + channel % params.width;
        let count = f32(min(params.run, params.pixels - run * params.run));
        let deviation = partials[at] - near + partials[at + 4u] - mean;
        squares += partials[at + 8u] + count * deviation * deviation;
    }
    let factor = inverseSqrt(reduce_sum(squares, lane) / total + params.eps);
    for (var i = lane; i < params.members; i += WORKGROUP) {
        let channel = first_channel + i;
        let at = (image * loads + channel / params.width) * 12u + channel % params.width;
        statistics[at] = near;
        statistics[at + 4u] = mean;
        statistics[at + 8u] = factor;
    }
}
