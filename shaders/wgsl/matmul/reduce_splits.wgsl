// c = epilogue(sum of partial products), four columns an invocation; always in the same order.

override WORKGROUP = 64u;
override SPLITS = 2u;

@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group_id, counts) * WORKGROUP + lane;
    let quads = (params.columns + 3u) / 4u;
    let all = params.products * params.rows * quads;
    if i >= all {
        return;
    }
    var sum = partial[i];
    for (var split = 1u; split < SPLITS; split++) {
        sum += partial[split * all + i];
    }
    store4(i / quads, i % quads * 4u, sum);
}
