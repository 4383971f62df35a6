// Convolution as a product of tiles in shared memory: 64 HALVES pixels x 64 HALVES output channels a workgroup of 256,
// 4 HALVES x 4 HALVES sums an invocation, 16 / HALVES terms a slice. For GPUs.
//
// Weights are packed as [walk][group][panel of 8 channels][tap][input channels, whole fours][8]. Slices run over taps and
// channels alike, so that few channels leave no slice half empty. The next slice is loaded while one is summed.

// Fours of terms of a slice.
const QUADS = 4u / HALVES;
// One more than the pixels, so that neighbouring quads lie in different banks.
const A_STRIDE = 64u * HALVES + 1u;
const B_STRIDE = 16u * HALVES;

@group(0) @binding(2) var<storage, read> weight: array<Elem4>;

// Four channels of each pixel: [quad][pixel].
var<workgroup> a_tile: array<vec4<f32>, QUADS * A_STRIDE>;
// Four output channels of each term: [term][channel / 4].
var<workgroup> b_tile: array<vec4<f32>, 4u * QUADS * B_STRIDE>;

// Where an invocation reads x: four channels of a tap.
struct Place {
    tap_h: u32,
    tap_w: u32,
    c: u32,
    // The tap's pixel.
    start: u32,
}

fn find(place: ptr<function, Place>, pixel: Pixel) {
    let inside = (*place).tap_h < params.taps_h;
    (*place).start = select(OUTSIDE, source(pixel, (*place).tap_h, (*place).tap_w), inside);
}

// Moves on by so many channels; past the last tap all is OUTSIDE.
fn advance(place: ptr<function, Place>, pixel: Pixel, channels: u32, depth: u32) {
    (*place).c += channels;
    if (*place).c < depth {
        return;
    }
    // A slice has at most four fours, and each tap at least one.
    for (var i = 0u; i < 4u && (*place).c >= depth; i++) {
        (*place).c -= depth;
        (*place).tap_w += 1u;
        if (*place).tap_w == params.taps_w {
            (*place).tap_w = 0u;
            (*place).tap_h += 1u;
        }
    }
    find(place, pixel);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(group_id, counts);
    if group >= params.groups {
        return;
    }
    // Neighbouring workgroups share their pixels.
    let channel_tile = group % params.channel_tiles;
    let channel_group = group / params.channel_tiles % (params.cout / params.cout_group);
    let first_pixel = group / params.channel_tiles / (params.cout / params.cout_group) * (64u * HALVES);
    let group_start = channel_group * params.cin_group;
    let depth_tap = (params.cin_group + 3u) / 4u * 4u;
    let depth = params.taps_h * params.taps_w * depth_tap;

    // What this invocation loads: four channels of one pixel, and four output channels of one term.
    let own_pixel = lane / QUADS;
    let own_quad = lane % QUADS;
    let pixel = pixel_at(first_pixel + own_pixel);
    var place = Place(0u, 0u, 0u, OUTSIDE);
    find(&place, pixel);
    advance(&place, pixel, own_quad * 4u, depth_tap);
    let panels = (params.cout_group + 7u) / 8u;
    let own_panel = lane / (8u * QUADS);
    let own_term = lane / 2u % (4u * QUADS);
    let panel = channel_tile * (8u * HALVES) + own_panel;
    let b_start = params.weight_start / 4u + ((channel_group * panels + min(panel, panels - 1u)) * depth) * 2u + lane % 2u;

    // What it sums: pixels down + i and down + 64 + i, channels across * 4 and across * 4 + 64.
    let across = lane % 16u;
    let down = lane / 16u * 4u;
    var sums: array<vec4<f32>, 4u * HALVES * HALVES>;

    var a_next = load_x(place.start, group_start, place.c);
    var b_next = vec4<f32>(0.0);
    if own_term < depth {
        b_next = vec4<f32>(weight[b_start + own_term * 2u]);
    }
    for (var first = 0u; first < depth; first += 4u * QUADS) {
        workgroupBarrier();
        a_tile[own_quad * A_STRIDE + own_pixel] = a_next;
        b_tile[own_term * B_STRIDE + own_panel * 2u + lane % 2u] = b_next;
        workgroupBarrier();
        advance(&place, pixel, 4u * QUADS, depth_tap);
        a_next = load_x(place.start, group_start, place.c);
        let term = first + 4u * QUADS + own_term;
        b_next = vec4<f32>(0.0);
        if term < depth {
            b_next = vec4<f32>(weight[b_start + term * 2u]);
        }
        for (var quad = 0u; quad < QUADS; quad++) {
            for (var right = 0u; right < HALVES; right++) {
                let b = quad * 4u * B_STRIDE + right * 16u + across;
                let b0 = b_tile[b];
                let b1 = b_tile[b + B_STRIDE];
                let b2 = b_tile[b + 2u * B_STRIDE];
                let b3 = b_tile[b + 3u * B_STRIDE];
                for (var i = 0u; i < 4u * HALVES; i++) {
                    let a = a_tile[quad * A_STRIDE + down + i % 4u + i / 4u * 64u];
                    sums[i * HALVES + right] += a.x * b0 + a.y * b1 + a.z * b2 + a.w * b3;
                }
            }
        }
    }

    for (var i = 0u; i < 4u * HALVES; i++) {
        let at = first_pixel + down + i % 4u + i / 4u * 64u;
        if at < params.pixels {
            let index = target_index(pixel_at(at));
            for (var right = 0u; right < HALVES; right++) {
                let c = (channel_tile * HALVES + right) * 64u + across * 4u;
                let channel = channel_group * params.cout_group + c;
                store_y(index + channel, c, channel, sums[i * HALVES + right]);
            }
        }
    }
}
