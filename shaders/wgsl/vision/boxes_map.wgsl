// Boxes in another format, or clipped to an image. A box an invocation.

@group(0) @binding(2) var<storage, read_write> y: array<Elem4>;

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
    var b = vec4<f32>(boxes[i]);
    if WORK == 1u {
        let size = vec4<f32>(params.width, params.height, params.width, params.height);
        b = min(max(b, vec4<f32>(0.0)), size);
    } else {
        b = from_corners(to_corners(b, params.source), params.wanted);
    }
    y[i] = Elem4(b);
}
