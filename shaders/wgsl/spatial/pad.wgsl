// Padding and cropping of up to four axes, called image, row, column and channel: moves elements, bits unchanged. The
// table gives the input position of every output position of each axis that changes; none where the constant stands.

struct Params {
    first_group: u32,
    groups: u32,
    // Output rows of this dispatch; all images' rows are counted in one run.
    first_row: u32,
    rows: u32,
    in_height: u32,
    in_width: u32,
    // Channels in loads: 4 or one.
    in_channels: u32,
    out_height: u32,
    out_width: u32,
    out_channels: u32,
    // Where the axes' entries begin in the table; none for an axis that stays as it is.
    images_at: u32,
    rows_at: u32,
    columns_at: u32,
    channels_at: u32,
    // Where the bindings begin in their tensors, in loads, modulo 2^32.
    x_origin: u32,
    y_origin: u32,
    value: f32,
}

override WORKGROUP = 64u;

const NONE = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored>;

fn position(table: u32, i: u32) -> u32 {
    if table == NONE {
        return i;
    }
    return positions[table + i];
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    let channel = i % params.out_channels;
    let pixel = i / params.out_channels;
    let column = pixel % params.out_width;
    let row = params.first_row + pixel / params.out_width;
    if row - params.first_row >= params.rows {
        return;
    }
    let from_image = position(params.images_at, row / params.out_height);
    let from_row = position(params.rows_at, row % params.out_height);
    let from_column = position(params.columns_at, column);
    let from_channel = position(params.channels_at, channel);
    let out = (row * params.out_width + column) * params.out_channels + channel - params.y_origin;
    if max(max(from_image, from_row), max(from_column, from_channel)) == NONE {
        y[out] = Stored(Elem(params.value));
    } else {
        let from_line = from_image * params.in_height + from_row;
        y[out] = x[(from_line * params.in_width + from_column) * params.in_channels + from_channel - params.x_origin];
    }
}
