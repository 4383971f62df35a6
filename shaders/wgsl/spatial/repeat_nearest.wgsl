// Nearest-neighbour upsampling of NHWC images by whole factors: an invocation reads an input pixel's channels once and
// writes every output pixel that repeats them, bits unchanged.

struct Params {
    first_group: u32,
    groups: u32,
    // Input rows of this dispatch; all images' rows are counted in one run.
    first_row: u32,
    rows: u32,
    in_width: u32,
    vertical: u32,
    horizontal: u32,
    // Everything below in loads: 4 channels or one.
    channels: u32,
    // Where the bindings begin in their tensors, modulo 2^32.
    x_origin: u32,
    y_origin: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let column = pixel % params.in_width;
    let row = params.first_row + pixel / params.in_width;
    if row - params.first_row >= params.rows {
        return;
    }
    let value = x[(row * params.in_width + column) * params.channels + channel - params.x_origin];
    let y_row = params.in_width * params.horizontal * params.channels;
    var start = row * params.vertical * y_row + column * params.horizontal * params.channels + channel
        - params.y_origin;
    for (var v = 0u; v < params.vertical; v++) {
        var index = start;
        for (var h = 0u; h < params.horizontal; h++) {
            y[index] = value;
            index += params.channels;
        }
        start += y_row;
    }
}
