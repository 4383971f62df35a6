// Nearest-neighbour resizing of NHWC images by any factors: moves elements, bits unchanged. The table gives the input
// row of each output row, then the input column of each output column.

struct Params {
    first_group: u32,
    groups: u32,
    // Output rows of this dispatch; all images' rows are counted in one run.
    first_row: u32,
    rows: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    // Everything below in loads: 4 channels or one.
    channels: u32,
    // Where the bindings begin in their tensors, modulo 2^32.
    x_origin: u32,
    y_origin: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> sources: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let column = pixel % params.out_width;
    let row = params.first_row + pixel / params.out_width;
    if row - params.first_row >= params.rows {
        return;
    }
    let x_row = row / params.out_height * params.in_height + sources[row % params.out_height];
    let x_column = sources[params.out_height + column];
    y[(row * params.out_width + column) * params.channels + channel - params.y_origin] =
        x[(x_row * params.in_width + x_column) * params.channels + channel - params.x_origin];
}
