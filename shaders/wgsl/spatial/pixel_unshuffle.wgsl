// Pixels to channels of NHWC images: channel c * r * r + i * r + j comes from pixel (i, j) of the block of r by r. An
// invocation moves an element, bits unchanged; neighbours write neighbours.

struct Params {
    first_group: u32,
    groups: u32,
    // Rows of blocks of this dispatch; all images' rows are counted in one run.
    first_row: u32,
    rows: u32,
    // Blocks a row, and channels of the input.
    width: u32,
    channels: u32,
    r: u32,
    // Where the bindings begin in their tensors, in elements, modulo 2^32.
    x_origin: u32,
    y_origin: u32,
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
    let index = group_index(group, counts) * WORKGROUP + lane;
    let deep = params.channels * params.r * params.r;
    let channel = index % deep;
    let block = index / deep;
    let column = block % params.width;
    let row = params.first_row + block / params.width;
    if row - params.first_row >= params.rows {
        return;
    }
    let line = row * params.r + channel / params.r % params.r;
    let pixel = line * params.width * params.r + column * params.r + channel % params.r;
    let source = pixel * params.channels + channel / (params.r * params.r);
    y[(row * params.width + column) * deep + channel - params.y_origin] = x[source - params.x_origin];
}
