// Samples NHWC images at the points of a grid. Coordinates are computed in f32 by PyTorch's formulas. NaN and infinity
// are told by their bits, since comparisons with NaN may be optimised away, and nothing is converted to an integer
// before it was brought near the image.

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
    // In loads: 4 channels or one.
    channels: u32,
    // Where the bindings begin in their tensors, modulo 2^32; the grid's in elements.
    x_origin: u32,
    grid_origin: u32,
    y_origin: u32,
    // NaN, which WGSL cannot write.
    not_a_number: f32,
}

override WORKGROUP = 64u;
override MODE = 0u;
override PADDING_MODE = 0u;
override ALIGN_CORNERS = 0u;

// Values of MODE; nearest is the third.
const BILINEAR = 0u;
const BICUBIC = 2u;
// Values of PADDING_MODE; reflection is the third.
const ZEROS = 0u;
const BORDER = 1u;

const EXPONENT = 0x7f800000u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> grid: array<Coordinate>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored>;

fn is_finite(at: f32) -> bool {
    return (bitcast<u32>(at) & EXPONENT) != EXPONENT;
}

fn is_nan(at: f32) -> bool {
    return (bitcast<u32>(at) & 0x7fffffffu) > EXPONENT;
}

fn unnormalize(coordinate: f32, extent: f32) -> f32 {
    if ALIGN_CORNERS == 1u {
        return (coordinate + 1.0) * ((extent - 1.0) / 2.0);
    }
    return (coordinate + 1.0) * (extent / 2.0) - 0.5;
}

// Brings a coordinate inside as the padding does; zeros leave it, but not far outside.
fn settle(at: f32, extent: f32) -> f32 {
    let last = extent - 1.0;
    if PADDING_MODE == ZEROS {
        return select(min(max(at, -4.0), extent + 4.0), -4.0, is_nan(at));
    }
    if PADDING_MODE == BORDER {
        return select(min(max(at, 0.0), last), 0.0, is_nan(at));
    }
    let low = select(-0.5, 0.0, ALIGN_CORNERS == 1u);
    let span = select(extent, last, ALIGN_CORNERS == 1u);
    if !is_finite(at) || span <= 0.0 {
        return 0.0;
    }
    let distance = abs(at - low);
    let flips = floor(distance / span);
    let rest = distance - flips * span;
    let odd = flips - 2.0 * floor(flips / 2.0) > 0.5;
    return min(max(low + select(rest, span - rest, odd), 0.0), last);
}

// Cubic convolution with a = -0.75.
fn cubic_weights(t: f32) -> vec4<f32> {
    let far = vec2<f32>(1.0 + t, 2.0 - t);
    let near = vec2<f32>(t, 1.0 - t);
    let outer = -0.75 * (((far - 5.0) * far + 8.0) * far - 4.0);
    let inner = (1.25 * near - 2.25) * near * near + 1.0;
    return vec4<f32>(outer.x, inner.x, inner.y, outer.y);
}

fn pixel(line: u32, row: i32, column: i32, channel: u32) -> Lanes {
    if row < 0 || column < 0 || row >= i32(params.in_height) || column >= i32(params.in_width) {
        return Lanes(0.0);
    }
    let at = (line + u32(row)) * params.in_width + u32(column);
    return Lanes(x[at * params.channels + channel - params.x_origin]);
}

fn bilinear(line: u32, row: f32, column: f32, channel: u32) -> Lanes {
    let top = floor(row);
    let left = floor(column);
    let i = i32(top);
    let j = i32(left);
    let down = row - top;
    let right = column - left;
    let upper = (1.0 - right) * pixel(line, i, j, channel) + right * pixel(line, i, j + 1, channel);
    let lower = (1.0 - right) * pixel(line, i + 1, j, channel) + right * pixel(line, i + 1, j + 1, channel);
    return (1.0 - down) * upper + down * lower;
}

fn bicubic(line: u32, row: f32, column: f32, channel: u32) -> Lanes {
    let height = f32(params.in_height);
    let width = f32(params.in_width);
    let top = floor(row);
    let left = floor(column);
    let row_weights = cubic_weights(row - top);
    let weights = cubic_weights(column - left);
    var sum = Lanes(0.0);
    for (var r = 0u; r < 4u; r++) {
        let i = i32(settle(top - 1.0 + f32(r), height));
        for (var c = 0u; c < 4u; c++) {
            let j = i32(settle(left - 1.0 + f32(c), width));
            sum += row_weights[r] * weights[c] * pixel(line, i, j, channel);
        }
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    let channel = i % params.channels;
    let point = i / params.channels;
    let row = params.first_row + point / params.out_width;
    if row - params.first_row >= params.rows {
        return;
    }
    let to = row * params.out_width + point % params.out_width;
    let height = f32(params.in_height);
    let width = f32(params.in_width);
    let column_at = unnormalize(f32(grid[2u * to - params.grid_origin]), width);
    let row_at = unnormalize(f32(grid[2u * to + 1u - params.grid_origin]), height);
    let finite = is_finite(column_at) && is_finite(row_at);
    let line = row / params.out_height * params.in_height;
    var value: Lanes;
    if MODE == BICUBIC {
        // Neither the pixels far outside nor those of the border change where the point is brought near.
        let near = select(vec2<f32>(1e38), vec2<f32>(height, width) + 4.0, PADDING_MODE <= BORDER);
        let least = select(-1e38, -4.0, PADDING_MODE <= BORDER);
        let at = select(vec2<f32>(0.0), vec2<f32>(row_at, column_at), finite);
        let settled = min(max(at, vec2<f32>(least)), near);
        value = bicubic(line, settled.x, settled.y, channel);
        value = select(Lanes(params.not_a_number), value, finite);
    } else if MODE == BILINEAR {
        value = bilinear(line, settle(row_at, height), settle(column_at, width), channel);
        value = select(Lanes(params.not_a_number), value, finite || PADDING_MODE != ZEROS);
    } else {
        value = pixel(line, i32(round(settle(row_at, height))), i32(round(settle(column_at, width))), channel);
    }
    y[to * params.channels + channel - params.y_origin] = Stored(value);
}
