// The walk of a convolution over images [batch, height, width, channels]: which inputs an output sums over.
//
// Output (first + i * step), for i < count, sums over taps t < taps the inputs (base + i * stride + t * dilation), along
// the height and along the width. An ordinary convolution is one walk; a transposed one is a walk for each position within
// its stride.

struct Params {
    first_group: u32,
    groups: u32,
    in_h: u32,
    in_w: u32,
    cin: u32,
    out_h: u32,
    out_w: u32,
    cout: u32,
    // Channels of a group.
    cin_group: u32,
    cout_group: u32,
    // Outputs of the walk over all images, without channels.
    pixels: u32,
    count_h: u32,
    count_w: u32,
    first_h: u32,
    first_w: u32,
    step_h: u32,
    step_w: u32,
    base_h: i32,
    base_w: i32,
    stride_h: i32,
    stride_w: i32,
    dilation_h: i32,
    dilation_w: i32,
    taps_h: u32,
    taps_w: u32,
    // Each input pixel stands for 2^upsample x 2^upsample.
    upsample: u32,
    // Added to indices where a part of x or y is bound; they wrap around.
    x_start: u32,
    y_start: u32,
    // Weights as they are stored: the first tap's place, and elements between neighbours. Packed ones: the walk's place.
    weight_start: u32,
    weight_row: u32,
    weight_column: u32,
    weight_in: u32,
    weight_out: u32,
    weight_group: u32,
    // Tiles: of pixels, and of a group's output channels.
    pixel_tiles: u32,
    channel_tiles: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Where no input is.
const OUTSIDE = 0xffffffffu;

// An output of the walk: the input position of its first tap, its image, and its place within the walk.
struct Pixel {
    image: u32,
    row: u32,
    column: u32,
}

// Pixel i, or the last one.
fn pixel_at(index: u32) -> Pixel {
    let i = min(index, params.pixels - 1u);
    return Pixel(i / params.count_w / params.count_h, i / params.count_w % params.count_h, i % params.count_w);
}

// Channel 0 of the input that a tap of a pixel meets, or OUTSIDE.
fn source(pixel: Pixel, tap_h: u32, tap_w: u32) -> u32 {
    let h = params.base_h + i32(pixel.row) * params.stride_h + i32(tap_h) * params.dilation_h;
    let w = params.base_w + i32(pixel.column) * params.stride_w + i32(tap_w) * params.dilation_w;
    // Negative positions are large as u32.
    let row = bitcast<u32>(h) >> params.upsample;
    let column = bitcast<u32>(w) >> params.upsample;
    let inside = h >= 0 && w >= 0 && row < params.in_h && column < params.in_w;
    return select(OUTSIDE, params.x_start + ((pixel.image * params.in_h + row) * params.in_w + column) * params.cin, inside);
}

// Channel 0 of a pixel's output.
fn target_index(pixel: Pixel) -> u32 {
    let row = params.first_h + pixel.row * params.step_h;
    let column = params.first_w + pixel.column * params.step_w;
    return params.y_start + ((pixel.image * params.out_h + row) * params.out_w + column) * params.cout;
}
