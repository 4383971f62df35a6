// Up to four output channels of one pixel an invocation: for any kernel, stride, dilation, groups and padding, and for
// weights as they are stored.

override WORKGROUP = 64u;

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
    let channel_groups = params.cout / params.cout_group;
    let index = item / params.channel_tiles / channel_groups;
    if index >= params.pixels {
        return;
    }
    let pixel = pixel_at(index);
    let channel_group = item / params.channel_tiles % channel_groups;
    // The first of up to four output channels, within its group.
    let first = item % params.channel_tiles * 4u;
    let channels = min(4u, params.cout_group - first);
    // Channels past the last repeat it; nobody stores them.
    let next = min(vec3<u32>(1u, 2u, 3u), vec3<u32>(channels - 1u)) * params.weight_out;

    let weight_start = params.weight_start + channel_group * params.weight_group + first * params.weight_out;
    var sum = vec4<f32>(0.0);
    for (var tap_h = 0u; tap_h < params.taps_h; tap_h++) {
        for (var tap_w = 0u; tap_w < params.taps_w; tap_w++) {
            let start = source(pixel, tap_h, tap_w);
            if start == OUTSIDE {
                continue;
            }
            let x_start = start + channel_group * params.cin_group;
            var w = weight_start + tap_h * params.weight_row + tap_w * params.weight_column;
            for (var c = 0u; c < params.cin_group; c++) {
                let weights = vec4<f32>(
                    f32(weight[w]),
                    f32(weight[w + next.x]),
                    f32(weight[w + next.y]),
                    f32(weight[w + next.z]),
                );
                sum += f32(x[x_start + c]) * weights;
                w += params.weight_in;
            }
        }
    }

    let channel = channel_group * params.cout_group + first;
    let at = target_index(pixel) + channel;
    let result = epilogue(sum, at, channel);
    for (var i = 0u; i < channels; i++) {
        y[at + i] = Elem(result[i]);
    }
}
