// Attention for GPUs: 64 queries a workgroup, keys in tiles of 32, everything that invocations share in 15 KiB of shared
// memory (Dao 2023, "FlashAttention-2", with plain arithmetic in place of matrix units).
//
// Invocation (tx, ty) of 8 x 16 has queries ty, ty + 16, ty + 32, ty + 48 of the tile. Of a tile's scores it computes those
// of keys 4 tx .. 4 tx + 3, a vec4 a query, from slices of 16 components of queries and keys; the eight invocations of a
// query find its largest score through shared memory, and each keeps its own part of the sum of weights until the end.
// Weights go to shared memory, and an invocation adds up columns tx, tx + 8 ... (in quads) of the values. Heads of values
// longer than CHUNK_QUADS are split over workgroups, which compute the scores anew.

const TILE_QUERIES = 64u;
const TILE_KEYS = 32u;
// Rows of 8 quads of weights, and one against bank conflicts.
const WEIGHTS_ROW = 9u;

// A slice of queries and keys, then partial results, then a slice of values.
var<workgroup> stage: array<vec4<f32>, 384>;
var<workgroup> weights: array<vec4<f32>, TILE_QUERIES * WEIGHTS_ROW>;

// Where quad 0..3 of a staged row lies: eight consecutive rows are read at once and fall into different banks.
fn slot(row: u32, quad: u32) -> u32 {
    return row * 4u + (quad ^ ((row >> 1u) & 3u));
}

fn stage_slice(head: Head, first_query: u32, first_key: u32, slice: u32, lane: u32) {
    let quad = slice * 4u + lane % 4u;
    let inside = quad < HEAD_QUADS;
    for (var row = lane / 4u; row < TILE_QUERIES; row += 32u) {
        var value = vec4<f32>(0.0);
        if inside {
            let query = min(first_query + row, params.queries - 1u);
            value = q_load(head.q + query * params.q_row, quad) * params.scale;
        }
        stage[slot(row, lane % 4u)] = value;
    }
    let row = lane / 4u;
    var value = vec4<f32>(0.0);
    if inside {
        let key = min(first_key + row, params.keys - 1u);
        value = k_load(head.k + key * params.k_row, quad);
    }
    // Keys 4 tx + j, read together for one j, become neighbours.
    stage[slot(TILE_QUERIES + row % 4u * 8u + row / 4u, lane % 4u)] = value;
}

fn stage_values(head: Head, first_key: u32, first_quad: u32, end_quad: u32, lane: u32) {
    let quad = first_quad + lane % 8u;
    for (var row = lane / 8u; row < TILE_KEYS; row += 16u) {
        var value = vec4<f32>(0.0);
        if quad < end_quad {
            let key = min(first_key + row, params.keys - 1u);
            value = v_load(head.v + key * params.v_row, quad);
        }
        stage[row * 8u + lane % 8u] = value;
    }
}

fn dots(query: vec4<f32>, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(query, k0), dot(query, k1), dot(query, k2), dot(query, k3));
}

// The scores of four keys, where the query may see them.
fn visible(score: vec4<f32>, mask_start: u32, query: u32, key: u32) -> vec4<f32> {
    let row = min(query, params.queries - 1u);
    let last = vec4<u32>(params.keys - 1u);
    let keys = key + vec4<u32>(0u, 1u, 2u, 3u);
    let columns = min(keys, last);
    let value = vec4<f32>(
        masked(score.x, mask_start, row, columns.x),
        masked(score.y, mask_start, row, columns.y),
        masked(score.z, mask_start, row, columns.z),
        masked(score.w, mask_start, row, columns.w),
    );
    return select(vec4<f32>(HIDDEN), value, keys < vec4<u32>(key_end(row)));
}

fn largest_of(s: vec4<f32>) -> f32 {
    return max(max(s.x, s.y), max(s.z, s.w));
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = group_index(group, counts);
    if place >= params.groups {
        return;
    }
    let first_quad = place % CHUNKS * CHUNK_QUADS;
    let end_quad = min(first_quad + CHUNK_QUADS, VALUE_QUADS);
    let tile = place / CHUNKS;
    let first_query = tile % params.tiles * TILE_QUERIES;
    let head = head_at(tile / params.tiles);
    let tx = lane % 8u;
    let ty = lane / 8u;
    let own = first_query + ty;
    // The last query of the tile sees the most keys.
    let end = key_end(min(first_query + TILE_QUERIES, params.queries) - 1u);

    // Row i * COLUMNS + c is for query i and column c.
    var sums: array<vec4<f32>, 4u * COLUMNS>;
    var largest = vec4<f32>(HIDDEN);
    var weight = vec4<f32>(0.0);
    for (var first_key = 0u; first_key < end; first_key += TILE_KEYS) {
        var s0 = vec4<f32>(0.0);
        var s1 = vec4<f32>(0.0);
        var s2 = vec4<f32>(0.0);
        var s3 = vec4<f32>(0.0);
        for (var slice = 0u; slice * 4u < HEAD_QUADS; slice++) {
            workgroupBarrier();
            stage_slice(head, first_query, first_key, slice, lane);
            workgroupBarrier();
            for (var quad = 0u; quad < 4u; quad++) {
                let k0 = stage[slot(TILE_QUERIES + tx, quad)];
                let k1 = stage[slot(TILE_QUERIES + 8u + tx, quad)];
                let k2 = stage[slot(TILE_QUERIES + 16u + tx, quad)];
                let k3 = stage[slot(TILE_QUERIES + 24u + tx, quad)];
                s0 += dots(stage[slot(ty, quad)], k0, k1, k2, k3);
                s1 += dots(stage[slot(ty + 16u, quad)], k0, k1, k2, k3);
                s2 += dots(stage[slot(ty + 32u, quad)], k0, k1, k2, k3);
                s3 += dots(stage[slot(ty + 48u, quad)], k0, k1, k2, k3);
            }
        }
        let key = first_key + tx * 4u;
        s0 = visible(s0, head.mask, own, key);
        s1 = visible(s1, head.mask, own + 16u, key);
        s2 = visible(s2, head.mask, own + 32u, key);
        s3 = visible(s3, head.mask, own + 48u, key);
        workgroupBarrier();
        stage[lane] = vec4<f32>(largest_of(s0), largest_of(s1), largest_of(s2), largest_of(s3));
        workgroupBarrier();
        var next = largest;
        for (var i = 0u; i < 8u; i++) {
            next = max(next, stage[ty * 8u + i]);
        }
        let keep = exp2(largest - next);
        largest = next;
        let p0 = exp2(s0 - next.x);
        let p1 = exp2(s1 - next.y);
        let p2 = exp2(s2 - next.z);
        let p3 = exp2(s3 - next.w);
        let ones = vec4<f32>(1.0);
        weight = weight * keep + vec4<f32>(dot(p0, ones), dot(p1, ones), dot(p2, ones), dot(p3, ones));
        weights[ty * WEIGHTS_ROW + tx] = p0;
        weights[(ty + 16u) * WEIGHTS_ROW + tx] = p1;
        weights[(ty + 32u) * WEIGHTS_ROW + tx] = p2;
        weights[(ty + 48u) * WEIGHTS_ROW + tx] = p3;

        for (var c = 0u; c < COLUMNS; c++) {
            workgroupBarrier();
            stage_values(head, first_key, first_quad + c * 8u, end_quad, lane);
            workgroupBarrier();
            var a0 = sums[c] * keep.x;
            var a1 = sums[COLUMNS + c] * keep.y;
            var a2 = sums[2u * COLUMNS + c] * keep.z;
            var a3 = sums[3u * COLUMNS + c] * keep.w;
            for (var quad = 0u; quad < 8u; quad++) {
                let v0 = stage[quad * 32u + tx];
                let v1 = stage[quad * 32u + 8u + tx];
                let v2 = stage[quad * 32u + 16u + tx];
                let v3 = stage[quad * 32u + 24u + tx];
                let w0 = weights[ty * WEIGHTS_ROW + quad];
                a0 += w0.x * v0 + w0.y * v1 + w0.z * v2 + w0.w * v3;
                let w1 = weights[(ty + 16u) * WEIGHTS_ROW + quad];
                a1 += w1.x * v0 + w1.y * v1 + w1.z * v2 + w1.w * v3;
                let w2 = weights[(ty + 32u) * WEIGHTS_ROW + quad];
                a2 += w2.x * v0 + w2.y * v1 + w2.z * v2 + w2.w * v3;
                let w3 = weights[(ty + 48u) * WEIGHTS_ROW + quad];
                a3 += w3.x * v0 + w3.y * v1 + w3.z * v2 + w3.w * v3;
            }
            sums[c] = a0;
            sums[COLUMNS + c] = a1;
            sums[2u * COLUMNS + c] = a2;
            sums[3u * COLUMNS + c] = a3;
        }
    }

    workgroupBarrier();
    stage[lane] = weight;
    workgroupBarrier();
    var whole = vec4<f32>(0.0);
    for (var i = 0u; i < 8u; i++) {
        whole += stage[ty * 8u + i];
    }
    let share = select(vec4<f32>(0.0), 1.0 / whole, largest > vec4<f32>(HIDDEN));
    for (var i = 0u; i < 4u; i++) {
        let query = own + i * 16u;
        if query >= params.queries {
            continue;
        }
        for (var c = 0u; c < COLUMNS; c++) {
            let quad = first_quad + c * 8u + tx;
            if quad < end_quad {
                y_store(head.y + query * params.heads * params.v_head, quad, sums[i * COLUMNS + c] * share[i]);
            }
        }
    }
}
