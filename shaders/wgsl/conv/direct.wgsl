// y = epilogue(convolution of x with weight): up to four output channels of one pixel an invocation. For any kernel,
// stride, dilation, groups and padding, any order of the weight, and the phases of transposed convolutions.

struct Params {
    first_group: u32,
    groups: u32,
    items: u32,
    // Images are [batch, height, width, channels].
    in_h: u32,
    in_w: u32,
    cin: u32,
    out_h: u32,
    out_w: u32,
    cout: u32,
    cin_group: u32,
    cout_group: u32,
    // Output (first + i * step), for i < count, sums over t < taps the inputs (base + i * stride + t * dilation).
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
    // Each input pixel stands for upsample x upsample.
    upsample: u32,
    // Where the first tap's weight is, and elements between neighbours.
    weight_first: u32,
    weight_row: u32,
    weight_column: u32,
    weight_in: u32,
    weight_out: u32,
    weight_group: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> weight: array<Elem>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = group_index(group, counts) * WORKGROUP + lane;
    if item >= params.items {
        return;
    }
    let quads_a_group = (params.cout_group + 3u) / 4u;
    let quads = params.cout / params.cout_group * quads_a_group;
    let channel_group = item % quads / quads_a_group;
    // The first of up to four output channels, within its group.
    let first = item % quads_a_group * 4u;
    let pixel = item / quads;
    let column = pixel % params.count_w;
    let row = pixel / params.count_w % params.count_h;
    let image = pixel / params.count_w / params.count_h;
    let channels = min(4u, params.cout_group - first);
    // Channels past the last repeat it; nobody stores them.
    let next = min(vec3<u32>(1u, 2u, 3u), vec3<u32>(channels - 1u)) * params.weight_out;

    let limit_h = i32(params.in_h * params.upsample);
    let limit_w = i32(params.in_w * params.upsample);
    let weight_start =
        params.weight_first + channel_group * params.weight_group + first * params.weight_out;
    var sum = vec4<f32>(0.0);
    for (var tap_h = 0u; tap_h < params.taps_h; tap_h++) {
        let in_row = params.base_h + i32(row) * params.stride_h + i32(tap_h) * params.dilation_h;
        if in_row < 0 || in_row >= limit_h {
            continue;
        }
        for (var tap_w = 0u; tap_w < params.taps_w; tap_w++) {
            let in_column = params.base_w + i32(column) * params.stride_w + i32(tap_w) * params.dilation_w;
            if in_column < 0 || in_column >= limit_w {
                continue;
            }
            let source =
                (image * params.in_h + u32(in_row) / params.upsample) * params.in_w + u32(in_column) / params.upsample;
            let x_start = source * params.cin + channel_group * params.cin_group;
            var w = weight_start + tap_h * params.weight_row + tap_w * params.weight_column;
            for (var i = 0u; i < params.cin_group; i++) {
                let weights = vec4<f32>(
                    f32(weight[w]),
                    f32(weight[w + next.x]),
                    f32(weight[w + next.y]),
                    f32(weight[w + next.z]),
                );
                sum += f32(x[x_start + i]) * weights;
                w += params.weight_in;
            }
        }
    }

    let out_row = params.first_h + row * params.step_h;
    let out_column = params.first_w + column * params.step_w;
    let channel = channel_group * params.cout_group + first;
    let at = ((image * params.out_h + out_row) * params.out_w + out_column) * params.cout + channel;
    let result = epilogue(sum, at, channel);
    for (var i = 0u; i < channels; i++) {
        y[at + i] = Elem(result[i]);
    }
}
