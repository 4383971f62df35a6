// Channels to pixels of NHWC images: block (i, j) of r by r pixels comes from channels c * r * r + i * r + j. An
// invocation moves an element, bits unchanged; neighbours write neighbours.

struct Params {
    first_group: u32,
    groups: u32,
    // Rows of blocks of this dispatch; all images' rows are counted in one run.
    first_row: u32,
    rows: u32,
    // Blocks a row, and channels of the output.
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
    let out_width = params.width * params.r;
    let c = index % params.channels;
    let pixel = index / params.channels;
    let column = pixel % out_width;
    // Within this dispatch.
    let line = pixel / out_width;
    if line >= params.rows * params.r {
        return;
    }
    let block = (params.first_row + line / params.r) * params.width + column / params.r;
    let channel = (c * params.r + line % params.r) * params.r + column % params.r;
    let source = block * params.channels * params.r * params.r + channel;
    y[params.first_row * params.r * out_width * params.channels + index - params.y_origin] = x[source - params.x_origin];
}
