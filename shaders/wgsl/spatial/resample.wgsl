// Separable resampling of NHWC images: each output pixel is a weighted sum over a rectangle of input pixels. The table
// gives for each output row, then for each output column: first input index, number of taps, the taps' weights.

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
    // Words of a table's entry, and where the columns' entries begin.
    row_words: u32,
    column_words: u32,
    columns_at: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<In>;
@group(0) @binding(2) var<storage, read> taps: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;

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
    let image = row / params.out_height;
    let row_entry = row % params.out_height * params.row_words;
    let column_entry = params.columns_at + column * params.column_words;
    let row_taps = taps[row_entry + 1u];
    let column_taps = taps[column_entry + 1u];
    let x_row = params.in_width * params.channels;
    // Indices wrap; bindings begin at the origins, so the differences are right.
    var start = (image * params.in_height + taps[row_entry]) * x_row
        + taps[column_entry] * params.channels + channel - params.x_origin;
    var sum = Lanes(0.0);
    for (var r = 0u; r < row_taps; r++) {
        var line = Lanes(0.0);
        var index = start;
        for (var c = 0u; c < column_taps; c++) {
            line += bitcast<f32>(taps[column_entry + 2u + c]) * Lanes(x[index]);
            index += params.channels;
        }
        sum += bitcast<f32>(taps[row_entry + 2u + r]) * line;
        start += x_row;
    }
    y[(row * params.out_width + column) * params.channels + channel - params.y_origin] = Out(sum);
}
