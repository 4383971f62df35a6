// Areas of boxes. A box an invocation.

@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

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
    let b = to_corners(vec4<f32>(boxes[i]), params.source);
    y[i] = Elem((b.z - b.x) * (b.w - b.y));
}
