// Convolution as a product without shared memory or barriers: TILE pixels x 8 output channels a lane, in registers. For
// software rasterisers; see matmul/lanes.wgsl for why it is written as it is.
//
// A workgroup of LANES lanes computes TILE pixels x (8 LANES) channels of one group of channels. A lane loads the pixels
// that it holds (unit `lanes_shared` or `lanes_alone`) and has eight output channels of the weights, which are packed as
// [walk][group][panel of 8 channels][tap][input channels, whole fours][8].

@group(0) @binding(2) var<storage, read> weight: array<Elem4>;

// Eight sums of each of four pixels: pixel p's are 2 p and 2 p + 1.
alias Block = array<vec4<f32>, 8>;

// Four terms of four sums: `a` along the input channels, `b`'s columns[i] the weights of its channel i.
fn add4(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return sum + a.x * b[0] + a.y * b[1] + a.z * b[2] + a.w * b[3];
}

fn add_pixels(
    block: ptr<function, Block>,
    quads: ptr<function, array<vec4<f32>, 8>>,
    first: u32,
    left: mat4x4<f32>,
    right: mat4x4<f32>,
) {
    let a0 = pixel_quad(quads, first);
    (*block)[0] = add4((*block)[0], a0, left);
    (*block)[1] = add4((*block)[1], a0, right);
    let a1 = pixel_quad(quads, first + 1u);
    (*block)[2] = add4((*block)[2], a1, left);
    (*block)[3] = add4((*block)[3], a1, right);
    let a2 = pixel_quad(quads, first + 2u);
    (*block)[4] = add4((*block)[4], a2, left);
    (*block)[5] = add4((*block)[5], a2, right);
    let a3 = pixel_quad(quads, first + 3u);
    (*block)[6] = add4((*block)[6], a3, left);
    (*block)[7] = add4((*block)[7], a3, right);
}

fn load_weight(i: u32) -> vec4<f32> {
    return vec4<f32>(weight[i]);
}

fn store_pixel(pixel: u32, c: u32, channel: u32, left: vec4<f32>, right: vec4<f32>) {
    if pixel < params.pixels {
        let index = target_index(pixel_at(pixel)) + channel;
        store_y(index, c, channel, left);
        store_y(index + 4u, c + 4u, channel + 4u, right);
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(group_id, counts);
    if group >= params.groups {
        return;
    }
    // Tiles of pixels come first, so that a panel of weights is read from the cache by all of them.
    let first_pixel = group % params.pixel_tiles * TILE;
    let tile = group / params.pixel_tiles;
    let c = (tile % params.channel_tiles * LANES + lane) * 8u;
    let channel_group = tile / params.channel_tiles;
    let group_start = channel_group * params.cin_group;

    // The pixels that this lane loads: some of these eight, as many as TILE asks for.
    let own = first_pixel + lane % SHARE;
    let pixel0 = pixel_at(own);
    let pixel1 = pixel_at(own + SHARE);
    let pixel2 = pixel_at(own + 2u * SHARE);
    let pixel3 = pixel_at(own + 3u * SHARE);
    let pixel4 = pixel_at(own + 4u * SHARE);
    let pixel5 = pixel_at(own + 5u * SHARE);
    let pixel6 = pixel_at(own + 6u * SHARE);
    let pixel7 = pixel_at(own + 7u * SHARE);

    // Lanes past the last channel repeat its panel; nobody stores what they sum.
    let depth = params.taps_h * params.taps_w * ((params.cin_group + 3u) / 4u * 4u);
    let panels = (params.cout_group + 7u) / 8u;
    let panel = channel_group * panels + min(c / 8u, panels - 1u);
    var w = params.weight_start / 4u + panel * depth * 2u;

    // TILE is a constant, and blocks past it cost nothing.
    var block0: Block;
    var block1: Block;
    var block2: Block;
    var block3: Block;
    var block4: Block;
    var block5: Block;
    var block6: Block;
    var block7: Block;
    var starts: array<u32, 8>;
    var quads: array<vec4<f32>, 8>;
    for (var tap_h = 0u; tap_h < params.taps_h; tap_h++) {
        for (var tap_w = 0u; tap_w < params.taps_w; tap_w++) {
            starts[0] = source(pixel0, tap_h, tap_w);
            if TILE > SHARE { starts[1] = source(pixel1, tap_h, tap_w); }
            if TILE > 2u * SHARE { starts[2] = source(pixel2, tap_h, tap_w); }
            if TILE > 3u * SHARE { starts[3] = source(pixel3, tap_h, tap_w); }
            if TILE > 4u * SHARE { starts[4] = source(pixel4, tap_h, tap_w); }
            if TILE > 5u * SHARE { starts[5] = source(pixel5, tap_h, tap_w); }
            if TILE > 6u * SHARE { starts[6] = source(pixel6, tap_h, tap_w); }
            if TILE > 7u * SHARE { starts[7] = source(pixel7, tap_h, tap_w); }
            for (var k = 0u; k < params.cin_group; k += 4u) {
                let left = mat4x4<f32>(load_weight(w), load_weight(w + 2u), load_weight(w + 4u), load_weight(w + 6u));
                let right = mat4x4<f32>(load_weight(w + 1u), load_weight(w + 3u), load_weight(w + 5u), load_weight(w + 7u));
                w += 8u;
                quads[0] = load_x(starts[0], group_start, k);
                if TILE > SHARE { quads[1] = load_x(starts[1], group_start, k); }
                if TILE > 2u * SHARE { quads[2] = load_x(starts[2], group_start, k); }
                if TILE > 3u * SHARE { quads[3] = load_x(starts[3], group_start, k); }
                if TILE > 4u * SHARE { quads[4] = load_x(starts[4], group_start, k); }
                if TILE > 5u * SHARE { quads[5] = load_x(starts[5], group_start, k); }
                if TILE > 6u * SHARE { quads[6] = load_x(starts[6], group_start, k); }
                if TILE > 7u * SHARE { quads[7] = load_x(starts[7], group_start, k); }
                add_pixels(&block0, &quads, 0u, left, right);
                if TILE > 4u { add_pixels(&block1, &quads, 4u, left, right); }
                if TILE > 8u { add_pixels(&block2, &quads, 8u, left, right); }
                if TILE > 12u { add_pixels(&block3, &quads, 12u, left, right); }
                if TILE > 16u { add_pixels(&block4, &quads, 16u, left, right); }
                if TILE > 20u { add_pixels(&block5, &quads, 20u, left, right); }
                if TILE > 24u { add_pixels(&block6, &quads, 24u, left, right); }
                if TILE > 28u { add_pixels(&block7, &quads, 28u, left, right); }
            }
        }
    }

    // The blocks move up instead of being indexed, so that they can stay registers and the epilogue is there only once.
    let channel = channel_group * params.cout_group + c;
    for (var i = 0u; i < TILE; i += 4u) {
        store_pixel(first_pixel + i, c, channel, block0[0], block0[1]);
        store_pixel(first_pixel + i + 1u, c, channel, block0[2], block0[3]);
        store_pixel(first_pixel + i + 2u, c, channel, block0[4], block0[5]);
        store_pixel(first_pixel + i + 3u, c, channel, block0[6], block0[7]);
        block0 = block1;
        block1 = block2;
        block2 = block3;
        block3 = block4;
        block4 = block5;
        block5 = block6;
        block6 = block7;
    }
}
