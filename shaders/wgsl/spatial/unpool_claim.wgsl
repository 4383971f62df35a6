// Max unpooling, second: every pixel claims its place by its index plus one; the largest wins, in whatever order.

struct Params {
    first_group: u32,
    groups: u32,
    // Pixels of an input plane and of an output plane.
    pixels: u32,
    planes: u32,
    channels: u32,
    elements: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read_write> places: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.elements {
        return;
    }
    let image = i / params.channels / params.pixels;
    // A negative index is a large one.
    let index = bitcast<u32>(indices[i]);
    if index < params.planes {
        atomicMax(&places[(image * params.planes + index) * params.channels + i % params.channels], i + 1u);
    }
}
