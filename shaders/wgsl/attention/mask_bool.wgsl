// True attends.
@group(0) @binding(5) var<storage, read> mask: array<u32>;

fn masked(score: f32, start: u32, query: u32, key: u32) -> f32 {
    let attends = mask[start + query * params.mask_query + key * params.mask_key] != 0u;
    return select(HIDDEN, score, attends);
}
