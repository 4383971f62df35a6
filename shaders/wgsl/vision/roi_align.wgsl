// Means of bilinear samples of an image's regions (He et al. 2017). WIDTH channels of an output pixel an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    // Invocations with work.
    len: u32,
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    out_height: u32,
    out_width: u32,
    // Samples a bin and direction; 0 for as many as it has pixels.
    sampling_ratio: u32,
    most_samples: u32,
    // Whether pixel centres lie at half numbers.
    aligned: u32,
    scale: f32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> rois: array<Elem>;

fn is_finite(v: f32) -> bool { return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u; }

// Samples of a bin of this size.
fn samples(size: f32) -> u32 {
    if params.sampling_ratio > 0u {
        return params.sampling_ratio;
    }
    if !is_finite(size) || size <= 0.0 {
        return 0u;
    }
    return u32(min(ceil(size), f32(params.most_samples)));
}

// (lower pixel, higher pixel, weight of the higher, whether it is inside) along one axis.
struct Sample {
    low: u32,
    high: u32,
    weight: f32,
    inside: bool,
}

fn sample(place: f32, extent: u32) -> Sample {
    if !is_finite(place) || place < -1.0 || place > f32(extent) {
        return Sample(0u, 0u, 0.0, false);
    }
    let p = max(place, 0.0);
    let low = u32(p);
    if low >= extent - 1u {
        return Sample(extent - 1u, extent - 1u, 0.0, true);
    }
    return Sample(low, low + 1u, p - f32(low), true);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.len {
        return;
    }
    let loads = params.channels / WIDTH;
    let pixel = i / loads;
    let channel = (i - pixel * loads) * WIDTH;
    let column = pixel % params.out_width;
    let row = pixel / params.out_width % params.out_height;
    let roi = pixel / params.out_width / params.out_height * 5u;
    let image = f32(rois[roi]);
    let offset = select(0.0, 0.5, params.aligned != 0u);
    let left = f32(rois[roi + 1u]) * params.scale - offset;
    let top = f32(rois[roi + 2u]) * params.scale - offset;
    var width = f32(rois[roi + 3u]) * params.scale - offset - left;
    var height = f32(rois[roi + 4u]) * params.scale - offset - top;
    if params.aligned == 0u {
        width = max(width, 1.0);
        height = max(height, 1.0);
    }
    let bin_width = width / f32(params.out_width);
    let bin_height = height / f32(params.out_height);
    let across = samples(bin_width);
    let down = samples(bin_height);
    var sum = vec4<f32>(0.0);
    // Regions of images that do not exist are zero.
    if is_finite(image) && image >= 0.0 && image < f32(params.images) {
        let start = u32(image) * params.height * params.width;
        for (var iy = 0u; iy < down; iy++) {
            let y_place = top + f32(row) * bin_height + (f32(iy) + 0.5) * bin_height / f32(down);
            let v = sample(y_place, params.height);
            if !v.inside {
                continue;
            }
            for (var ix = 0u; ix < across; ix++) {
                let x_place = left + f32(column) * bin_width + (f32(ix) + 0.5) * bin_width / f32(across);
                let h = sample(x_place, params.width);
                if !h.inside {
                    continue;
                }
                let upper = start + v.low * params.width;
                let lower = start + v.high * params.width;
                let a = x_load((upper + h.low) * params.channels + channel);
                let b = x_load((upper + h.high) * params.channels + channel);
                let c = x_load((lower + h.low) * params.channels + channel);
                let d = x_load((lower + h.high) * params.channels + channel);
                sum += (a * (1.0 - h.weight) + b * h.weight) * (1.0 - v.weight)
                    + (c * (1.0 - h.weight) + d * h.weight) * v.weight;
            }
        }
    }
    y_store(pixel * params.channels + channel, sum / f32(max(across * down, 1u)));
}
