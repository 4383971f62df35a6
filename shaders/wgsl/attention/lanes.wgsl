// Attention for software rasterisers, without shared memory or barriers: each load there is a loop over the lanes, a barrier
// suspends every one of them, and registers that are indexed by variables lie in memory.
//
// A lane has four queries. Keys come in tiles of 8 * BLOCKS (16 or 32): a tile's scores are sums in registers while a loop
// runs along the head, then an online softmax (Milakov and Gimelshein 2018), in which no other lane takes part, makes weights of them, and
// a loop along the values' head adds those up. Keys and values are the same for all lanes, which load one in eight
// each where they can (unit lanes_*). The sums over values stay in memory (unit sums_*), so that heads of any size are
// the same code. Loops over registers are written out: a driver that does not unroll them keeps the registers in memory.

// Of eight keys, the scores of a lane's four queries; later the weights.
alias Scores = array<vec4<f32>, 8>;

struct Queries {
    index: vec4<u32>,
    start: vec4<u32>,
    // One past the last key that each may see.
    end: vec4<u32>,
}

// Four queries' quads, by component.
fn load_queries(queries: Queries, quad: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        q_load(queries.start.x, quad),
        q_load(queries.start.y, quad),
        q_load(queries.start.z, quad),
        q_load(queries.start.w, quad),
    ));
}

// Adds four terms of the sums of four queries and one key.
fn add_key(sums: vec4<f32>, key: vec4<f32>, queries: mat4x4<f32>) -> vec4<f32> {
    return sums + key.x * queries[0] + key.y * queries[1] + key.z * queries[2] + key.w * queries[3];
}

fn add_keys(scores: ptr<function, Scores>, keys: Eight, queries: mat4x4<f32>) {
    (*scores)[0] = add_key((*scores)[0], one(keys, 0u), queries);
    (*scores)[1] = add_key((*scores)[1], one(keys, 1u), queries);
    (*scores)[2] = add_key((*scores)[2], one(keys, 2u), queries);
    (*scores)[3] = add_key((*scores)[3], one(keys, 3u), queries);
    (*scores)[4] = add_key((*scores)[4], one(keys, 4u), queries);
    (*scores)[5] = add_key((*scores)[5], one(keys, 5u), queries);
    (*scores)[6] = add_key((*scores)[6], one(keys, 6u), queries);
    (*scores)[7] = add_key((*scores)[7], one(keys, 7u), queries);
}

// The score of a key in units of the exponent, where its queries may see it.
fn visible(score: vec4<f32>, mask_start: u32, queries: Queries, key: u32) -> vec4<f32> {
    let last = min(key, params.keys - 1u);
    let scaled = score * params.scale;
    let value = vec4<f32>(
        masked(scaled.x, mask_start, queries.index.x, last),
        masked(scaled.y, mask_start, queries.index.y, last),
        masked(scaled.z, mask_start, queries.index.z, last),
        masked(scaled.w, mask_start, queries.index.w, last),
    );
    return select(vec4<f32>(HIDDEN), value, vec4<u32>(key) < queries.end);
}

// Makes products scores and gives the largest of each query.
fn score_keys(scores: ptr<function, Scores>, largest: vec4<f32>, mask_start: u32, queries: Queries, key: u32) -> vec4<f32> {
    let s0 = visible((*scores)[0], mask_start, queries, key);
    let s1 = visible((*scores)[1], mask_start, queries, key + 1u);
    let s2 = visible((*scores)[2], mask_start, queries, key + 2u);
    let s3 = visible((*scores)[3], mask_start, queries, key + 3u);
    let s4 = visible((*scores)[4], mask_start, queries, key + 4u);
    let s5 = visible((*scores)[5], mask_start, queries, key + 5u);
    let s6 = visible((*scores)[6], mask_start, queries, key + 6u);
    let s7 = visible((*scores)[7], mask_start, queries, key + 7u);
    *scores = Scores(s0, s1, s2, s3, s4, s5, s6, s7);
    return max(largest, max(max(max(s0, s1), max(s2, s3)), max(max(s4, s5), max(s6, s7))));
}

// Makes scores weights and gives their sums.
fn weigh_keys(scores: ptr<function, Scores>, largest: vec4<f32>) -> vec4<f32> {
    let p0 = exp2((*scores)[0] - largest);
    let p1 = exp2((*scores)[1] - largest);
    let p2 = exp2((*scores)[2] - largest);
    let p3 = exp2((*scores)[3] - largest);
    let p4 = exp2((*scores)[4] - largest);
    let p5 = exp2((*scores)[5] - largest);
    let p6 = exp2((*scores)[6] - largest);
    let p7 = exp2((*scores)[7] - largest);
    *scores = Scores(p0, p1, p2, p3, p4, p5, p6, p7);
    return ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7));
}

// Adds a value's quad with the weights of four queries: sums[c] is component c for the four.
fn add_value(sums: mat4x4<f32>, value: vec4<f32>, weights: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        sums[0] + value.x * weights,
        sums[1] + value.y * weights,
        sums[2] + value.z * weights,
        sums[3] + value.w * weights,
    );
}

fn add_values(before: mat4x4<f32>, values: Eight, weights: ptr<function, Scores>) -> mat4x4<f32> {
    var sums = add_value(before, one(values, 0u), (*weights)[0]);
    sums = add_value(sums, one(values, 1u), (*weights)[1]);
    sums = add_value(sums, one(values, 2u), (*weights)[2]);
    sums = add_value(sums, one(values, 3u), (*weights)[3]);
    sums = add_value(sums, one(values, 4u), (*weights)[4]);
    sums = add_value(sums, one(values, 5u), (*weights)[5]);
    sums = add_value(sums, one(values, 6u), (*weights)[6]);
    return add_value(sums, one(values, 7u), (*weights)[7]);
}

fn scale_sums(sums: mat4x4<f32>, factor: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sums[0] * factor, sums[1] * factor, sums[2] * factor, sums[3] * factor);
}

// What a lane knows of its four queries.
struct Sofar {
    largest: vec4<f32>,
    weight: vec4<f32>,
}

// Takes in 8 * BLOCKS keys from `key` on; those past the end are hidden. Called at one place alone: it is inlined.
fn take_in(sofar: ptr<function, Sofar>, queries: Queries, head: Head, key: u32, lane: u32) {
    var s0: Scores;
    var s1: Scores;
    var s2: Scores;
    var s3: Scores;
    let k_rows = rows_at(head.k, params.k_row, key, lane);
    for (var d = 0u; d < HEAD_QUADS; d++) {
        let quads = load_queries(queries, d);
        add_keys(&s0, k_eight(k_rows, 0u, d), quads);
        add_keys(&s1, k_eight(k_rows, 1u, d), quads);
        if BLOCKS > 2u { add_keys(&s2, k_eight(k_rows, 2u, d), quads); }
        if BLOCKS > 3u { add_keys(&s3, k_eight(k_rows, 3u, d), quads); }
    }
    var next = score_keys(&s0, (*sofar).largest, head.mask, queries, key);
    next = score_keys(&s1, next, head.mask, queries, key + 8u);
    if BLOCKS > 2u { next = score_keys(&s2, next, head.mask, queries, key + 16u); }
    if BLOCKS > 3u { next = score_keys(&s3, next, head.mask, queries, key + 24u); }
    let keep = exp2((*sofar).largest - next);
    (*sofar).largest = next;
    var weight = (*sofar).weight * keep + weigh_keys(&s0, next);
    weight += weigh_keys(&s1, next);
    if BLOCKS > 2u { weight += weigh_keys(&s2, next); }
    if BLOCKS > 3u { weight += weigh_keys(&s3, next); }
    (*sofar).weight = weight;
    let v_rows = rows_at(head.v, params.v_row, key, lane);
    for (var d = 0u; d < VALUE_QUADS; d++) {
        var sums = scale_sums(load_sums(d), keep);
        sums = add_values(sums, v_eight(v_rows, 0u, d), &s0);
        sums = add_values(sums, v_eight(v_rows, 1u, d), &s1);
        if BLOCKS > 2u { sums = add_values(sums, v_eight(v_rows, 2u, d), &s2); }
        if BLOCKS > 3u { sums = add_values(sums, v_eight(v_rows, 3u, d), &s3); }
        store_sums(d, sums);
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = group_index(group, counts);
    if place >= params.groups {
        return;
    }
    let head = head_at(place / params.tiles);
    let first = place % params.tiles * (4u * LANES) + lane;
    let own = first + vec4<u32>(0u, 1u, 2u, 3u) * LANES;
    var queries: Queries;
    queries.index = min(own, vec4<u32>(params.queries - 1u));
    queries.start = head.q + queries.index * params.q_row;
    queries.end = vec4<u32>(
        key_end(queries.index.x),
        key_end(queries.index.y),
        key_end(queries.index.z),
        key_end(queries.index.w),
    );
    // The last query of the tile sees the most keys.
    let end = key_end(min(first - lane + 4u * LANES, params.queries) - 1u);

    start_sums(place * LANES + lane);
    var sofar = Sofar(vec4<f32>(HIDDEN), vec4<f32>(0.0));
    for (var key = 0u; key < end; key += 8u * BLOCKS) {
        take_in(&sofar, queries, head, key, lane);
    }

    let share = select(vec4<f32>(0.0), 1.0 / sofar.weight, sofar.largest > vec4<f32>(HIDDEN));
    let y_start = head.y + own * params.heads * params.v_head;
    for (var d = 0u; d < VALUE_QUADS; d++) {
        let results = transpose(scale_sums(load_sums(d), share));
        if own.x < params.queries { y_store(y_start.x, d, results[0]); }
        if own.y < params.queries { y_store(y_start.y, d, results[1]); }
        if own.z < params.queries { y_store(y_start.z, d, results[2]); }
        if own.w < params.queries { y_store(y_start.w, d, results[3]); }
    }
}
