// Convolution with few output channels a group: four pixels x 8 channels an invocation, each loading its own pixels, all
// the same weights. Weights are packed as [walk][group][panel of 8 channels][tap][input channels, whole fours][8].

override WORKGROUP = 64u;

@group(0) @binding(2) var<storage, read> weight: array<Elem4>;

// Four terms of four sums: `a` along the input channels, `b`'s columns[i] the weights of its channel i.
fn add4(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return sum + a.x * b[0] + a.y * b[1] + a.z * b[2] + a.w * b[3];
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

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(group_id, counts);
    let panel = group / params.pixel_tiles;
    let panels = params.channel_tiles;
    let first = (group % params.pixel_tiles * WORKGROUP + lane) * 4u;
    if group >= params.groups || first >= params.pixels {
        return;
    }
    let channel_group = panel / panels;
    let group_start = channel_group * params.cin_group;
    let pixel0 = pixel_at(first);
    let pixel1 = pixel_at(first + 1u);
    let pixel2 = pixel_at(first + 2u);
    let pixel3 = pixel_at(first + 3u);
    let depth = params.taps_h * params.taps_w * ((params.cin_group + 3u) / 4u * 4u);
    var w = params.weight_start / 4u + panel * depth * 2u;
    // Whether any of the panel's channels 4 .. 7 exist.
    let c = panel % panels * 8u;
    let wide = c + 4u < params.cout_group;
    var left0 = vec4<f32>(0.0);
    var left1 = vec4<f32>(0.0);
    var left2 = vec4<f32>(0.0);
    var left3 = vec4<f32>(0.0);
    var right0 = vec4<f32>(0.0);
    var right1 = vec4<f32>(0.0);
    var right2 = vec4<f32>(0.0);
    var right3 = vec4<f32>(0.0);
    for (var tap_h = 0u; tap_h < params.taps_h; tap_h++) {
        for (var tap_w = 0u; tap_w < params.taps_w; tap_w++) {
            let start0 = source(pixel0, tap_h, tap_w);
            let start1 = source(pixel1, tap_h, tap_w);
            let start2 = source(pixel2, tap_h, tap_w);
            let start3 = source(pixel3, tap_h, tap_w);
            for (var k = 0u; k < params.cin_group; k += 4u) {
                let a0 = load_x(start0, group_start, k);
                let a1 = load_x(start1, group_start, k);
                let a2 = load_x(start2, group_start, k);
                let a3 = load_x(start3, group_start, k);
                let left = mat4x4<f32>(load_weight(w), load_weight(w + 2u), load_weight(w + 4u), load_weight(w + 6u));
                left0 = add4(left0, a0, left);
                left1 = add4(left1, a1, left);
                left2 = add4(left2, a2, left);
                left3 = add4(left3, a3, left);
                if wide {
                    let right =
                        mat4x4<f32>(load_weight(w + 1u), load_weight(w + 3u), load_weight(w + 5u), load_weight(w + 7u));
                    right0 = add4(right0, a0, right);
                    right1 = add4(right1, a1, right);
                    right2 = add4(right2, a2, right);
                    right3 = add4(right3, a3, right);
                }
                w += 8u;
            }
        }
    }
    let channel = channel_group * params.cout_group + c;
    store_pixel(first, c, channel, left0, right0);
    store_pixel(first + 1u, c, channel, left1, right1);
    store_pixel(first + 2u, c, channel, left2, right2);
    store_pixel(first + 3u, c, channel, left3, right3);
}
