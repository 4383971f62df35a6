// What every attention kernel is told. Starts, strides and head sizes are in units of what q, k, v and y hold: four
// elements (vec4.wgsl) or one (scalar.wgsl).

struct Params {
    first_group: u32,
    groups: u32,
    queries: u32,
    keys: u32,
    heads: u32,
    // Query heads that share a key and value head.
    grouped: u32,
    causal: u32,
    // The scale times log2(e): scores are exponents of 2.
    scale: f32,
    q_start: u32,
    q_row: u32,
    q_head: u32,
    k_start: u32,
    k_row: u32,
    v_start: u32,
    v_row: u32,
    v_head: u32,
    // Elements between the mask's neighbours, 0 where it broadcasts.
    mask_batch: u32,
    mask_head: u32,
    mask_query: u32,
    mask_key: u32,
    // Tiles of queries a head, and heads of all batches.
    tiles: u32,
    batch_heads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

const LOG2_E = 1.4426950408889634;

// The score of a key that is not attended to. Below every score that counts, far from overflow: a running maximum that
// is still this after all keys marks a query that sees none.
const HIDDEN = -3.0e38;

// Where heads and batches start.
struct Head {
    q: u32,
    k: u32,
    v: u32,
    y: u32,
    mask: u32,
}

fn head_at(batch_head: u32) -> Head {
    let batch = batch_head / params.heads;
    let head = batch_head % params.heads;
    let kv_head = head / params.grouped;
    var at: Head;
    at.q = params.q_start + batch * params.queries * params.q_row + head * params.q_head;
    at.k = params.k_start + batch * params.keys * params.k_row + kv_head * params.q_head;
    at.v = params.v_start + batch * params.keys * params.v_row + kv_head * params.v_head;
    at.y = (batch * params.queries * params.heads + head) * params.v_head;
    at.mask = batch * params.mask_batch + head * params.mask_head;
    return at;
}

// One past the last key that a query may see.
fn key_end(query: u32) -> u32 {
    let keys = key_count();
    if params.causal == 0u {
        return keys;
    }
    return min(keys, query + min(first_position(), keys) + 1u);
}
