// Group norm in one step, a group of an image a workgroup: for groups small enough for one. x is
// [images, pixels, channels].

struct Params {
    first_group: u32,
    groups: u32,
    pixels: u32,
    channels: u32,
    // Channels that are normalised together.
    members: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

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
    let first_channel = item % sets * params.members;
    let start = item / sets * params.pixels * params.channels + first_channel;
    // Loads a pixel has, and the group.
    let width = params.members / WIDTH;
    let loads = params.pixels * width;
    let total = f32(params.pixels) * f32(params.members);
    // The mean, relative to an element, so that numbers far from zero lose nothing.
    let first = x_load(start).x;
    var sum = vec4<f32>(0.0);
    for (var load = lane; load < loads; load += WORKGROUP) {
        sum += x_load(start + load / width * params.channels + load % width * WIDTH) - first;
    }
    let mean = first + reduce_sum(sum_of(sum), lane) / total;
    sum = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var load = lane; load < loads; load += WORKGROUP) {
        let deviation = x_load(start + load / width * params.channels + load % width * WIDTH) - mean;
        sum += deviation;
        squares += deviation * deviation;
    }
    // What rounding the mean left over.
    let rest = reduce_sum(sum_of(sum), lane) / total;
    let variance = max(reduce_sum(sum_of(squares), lane) / total - rest * rest, 0.0);
    let factor = inverseSqrt(variance + params.eps);
    for (var load = lane; load < loads; load += WORKGROUP) {
        let column = load % width * WIDTH;
        let i = start + load / width * params.channels + column;
        y_store(i, epilogue((x_load(i) - mean - rest) * factor, i, first_channel + column));
    }
}
