// Group norm, first step: mean and sum of squared deviations of each channel over a run of pixels (Welford 1962). x is
// [images, pixels, channels]. An invocation has a channel, or four neighbours, of a run.

struct Params {
    first_group: u32,
    groups: u32,
    images: u32,
    pixels: u32,
    channels: u32,
    // Runs an image has, and pixels a run has; the last one may have fewer.
    runs: u32,
    run: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// For each image, run and load of channels: the first pixel, then the mean relative to it, so that nothing is lost far
// from zero, then the sum of squared deviations.
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let loads = params.channels / WIDTH;
    let item = group_index(group, counts) * WORKGROUP + lane;
    if item >= params.images * params.runs * loads {
        return;
    }
    let load = item % loads;
    let run = item / loads % params.runs;
    let image = item / loads / params.runs;
    let pixel = run * params.run;
    let count = min(params.run, params.pixels - pixel);
    var i = (image * params.pixels + pixel) * params.channels + load * WIDTH;
    let first = x_load(i);
    var mean = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var n = 1u; n <= count; n++) {
        let v = x_load(i) - first;
        let step = v - mean;
        mean += step / f32(n);
        squares += step * (v - mean);
        i += params.channels;
    }
    partials[item * 3u] = first;
    partials[item * 3u + 1u] = mean;
    partials[item * 3u + 2u] = squares;
}
