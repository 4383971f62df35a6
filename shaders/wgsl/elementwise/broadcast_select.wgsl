// y = a where c holds, b elsewhere, all inputs broadcast, an element an invocation.

@group(0) @binding(1) var<storage, read> a: array<Elem>;
@group(0) @binding(2) var<storage, read> b: array<Elem>;
@group(0) @binding(3) var<storage, read> c: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;

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
    let at = place(i);
    if c[at.c] != 0u {
        y[i] = a[at.a];
    } else {
        y[i] = b[at.b];
    }
}
