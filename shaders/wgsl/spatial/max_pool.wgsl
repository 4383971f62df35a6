// Maxima over windows of NHWC images. The table gives for each output row, then for each output column: first input
// position, number of positions. NaN is larger than any number; tests look at bits, since NaN comparisons may be
// optimised away.

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
    // Everything below but the steps in loads: 4 channels or one.
    channels: u32,
    // From position to position of a window: the dilation.
    row_step: u32,
    column_step: u32,
    // Where the bindings begin in their tensors, modulo 2^32.
    x_origin: u32,
    y_origin: u32,
    indices_origin: u32,
    // Minus infinity, which WGSL cannot write.
    lowest: f32,
    // Window rows of this dispatch; where they are not the first, y has what those before left.
    first_tap: u32,
    end_tap: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> windows: array<u32>;
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
    let image = row / params.out_height * params.in_height * params.in_width;
    let row_entry = row % params.out_height * 2u;
    let column_entry = (params.out_height + column) * 2u;
    let row_count = windows[row_entry + 1u];
    let column_count = windows[column_entry + 1u];
    var start = windows[row_entry] * params.in_width + windows[column_entry];
    var best = Lanes(params.lowest);
    var best_at = Ints(i32(start));
    let out = (row * params.out_width + column) * params.channels + channel;
    if params.first_tap > 0u {
        best = Lanes(y[out - params.y_origin]);
        best_at = load_index(out - params.indices_origin);
        start += params.first_tap * params.row_step * params.in_width;
    }
    for (var r = params.first_tap; r < min(row_count, params.end_tap); r++) {
        var at = start;
        for (var c = 0u; c < column_count; c++) {
            let value = Lanes(x[(image + at) * params.channels + channel - params.x_origin]);
            let is_nan = (bitcast<Bits>(value) & Bits(0x7fffffffu)) > Bits(0x7f800000u);
            let best_is_nan = (bitcast<Bits>(best) & Bits(0x7fffffffu)) > Bits(0x7f800000u);
            let better = is_nan | (!best_is_nan & (value > best));
            best = select(best, value, better);
            best_at = select(best_at, Ints(i32(at)), better);
            at += params.column_step;
        }
        start += params.row_step * params.in_width;
    }
    y[out - params.y_origin] = Stored(best);
    store_index(out - params.indices_origin, best_at);
}
