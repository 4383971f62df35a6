// Depthwise convolution: four channels of one pixel an invocation. Weights are packed as [walk][tap][channel]; the number
// of channels is a multiple of 4.

override WORKGROUP = 64u;

@group(0) @binding(1) var<storage, read> x: array<Elem4>;
@group(0) @binding(2) var<storage, read> weight: array<Elem4>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem4>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = group_index(group, counts) * WORKGROUP + lane;
    let quads = params.cin / 4u;
    let index = item / quads;
    if index >= params.pixels {
        return;
    }
    let quad = item % quads;
    let pixel = pixel_at(index);
    var w = params.weight_start / 4u + quad;
    var sum = vec4<f32>(0.0);
    for (var tap_h = 0u; tap_h < params.taps_h; tap_h++) {
        for (var tap_w = 0u; tap_w < params.taps_w; tap_w++) {
            let start = source(pixel, tap_h, tap_w);
            if start != OUTSIDE {
                sum += vec4<f32>(x[start / 4u + quad]) * vec4<f32>(weight[w]);
            }
            w += quads;
        }
    }
    let at = target_index(pixel) + quad * 4u;
    y[at / 4u] = Elem4(epilogue(sum, at, quad * 4u));
}
