// A query an invocation, its keys one after the other, with an online softmax (Milakov and Gimelshein 2018): whenever
// a larger score comes, the sums so far are scaled down. The yardstick for the other kernels, and the fallback.
//
// A workgroup has queries of one head, or with ALL_HEADS, where they are few, those of several.

override WORKGROUP = 64u;
override ALL_HEADS = 0u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = group_index(group, counts);
    if place >= params.groups {
        return;
    }
    var query = place % params.tiles * WORKGROUP + lane;
    var batch_head = place / params.tiles;
    if ALL_HEADS != 0u {
        let i = place * WORKGROUP + lane;
        query = i % params.queries;
        batch_head = i / params.queries;
    }
    if query >= params.queries || batch_head >= params.batch_heads {
        return;
    }
    let head = head_at(batch_head);
    var own: array<vec4<f32>, HEAD_QUADS>;
    for (var d = 0u; d < HEAD_QUADS; d++) {
        own[d] = q_load(head.q + query * params.q_row, d) * params.scale;
    }
    var sums: array<vec4<f32>, VALUE_QUADS>;
    var largest = HIDDEN;
    var weight = 0.0;
    let end = key_end(query);
    for (var key = 0u; key < end; key++) {
        var products = vec4<f32>(0.0);
        for (var d = 0u; d < HEAD_QUADS; d++) {
            products += own[d] * k_load(head.k + key * params.k_row, d);
        }
        let score = masked(products.x + products.y + products.z + products.w, head.mask, query, key);
        let next = max(largest, score);
        let keep = exp2(largest - next);
        let p = exp2(score - next);
        largest = next;
        weight = weight * keep + p;
        for (var d = 0u; d < VALUE_QUADS; d++) {
            sums[d] = sums[d] * keep + p * v_load(head.v + key * params.v_row, d);
        }
    }
    let share = select(0.0, 1.0 / weight, largest > HIDDEN);
    for (var d = 0u; d < VALUE_QUADS; d++) {
        y_store(head.y + query * params.heads * params.v_head, d, sums[d] * share);
    }
}
