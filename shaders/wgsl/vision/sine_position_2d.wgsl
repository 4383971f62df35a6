// DETR's positions: sines and cosines of how many unmasked pixels lie above (first half of the channels) and to the left
// (second half), the pixel itself included. An element an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    height: u32,
    width: u32,
    // Channels of one direction.
    features: u32,
    // Whether counts are divided by the whole column's or row's.
    normalize: u32,
    scale: f32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
// What counts are divided by for each channel of a direction.
@group(0) @binding(2) var<storage, read> periods: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;

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
    let channels = 2u * params.features;
    let pixel = i / channels;
    let channel = i - pixel * channels;
    let column = pixel % params.width;
    let row = pixel / params.width % params.height;
    let image = pixel / params.width / params.height;
    let along_x = channel >= params.features;
    let first = image * params.height * params.width + select(column, row * params.width, along_x);
    let step = select(params.width, 1u, along_x);
    let extent = select(params.height, params.width, along_x);
    let own = select(row, column, along_x);
    var before = 0u;
    var all = 0u;
    for (var n = 0u; n < extent; n++) {
        let seen = u32(mask[first + n * step] != 0u);
        all += seen;
        before += select(0u, seen, n <= own);
    }
    var place = f32(before);
    if params.normalize != 0u {
        place = place / (f32(all) + 1e-6) * params.scale;
    }
    let feature = select(channel, channel - params.features, along_x);
    let wave = sin_cos(place / periods[feature]);
    y[i] = Out(select(wave.x, wave.y, (feature & 1u) == 1u));
}
