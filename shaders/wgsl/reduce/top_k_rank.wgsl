// The k largest or smallest elements of each line in order, with their indices; of equals, the first come first. An
// element an invocation: it counts the elements before it, and those with fewer than k write themselves in their place.

struct Params {
    first_group: u32,
    groups: u32,
    elements: u32,
    len: u32,
    // Elements between neighbours of a line.
    inner: u32,
    k: u32,
}

override WORKGROUP = 64u;
// 1 for the smallest first.
override SMALLEST = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> values: array<Elem>;
@group(0) @binding(3) var<storage, read_write> indices: array<i32>;

// NaN is the largest: first among the largest, last among the smallest.
fn score(value: Elem) -> u32 {
    let key = order_key(value);
    return select(key, ~key, SMALLEST != 0u);
}

// 1 where element n of the line comes before element own.
fn before(start: u32, n: u32, own: u32, mine: u32) -> u32 {
    let other = score(x[start + min(n, params.len - 1u) * params.inner]);
    return u32(n < params.len && (other > mine || (other == mine && n < own)));
}

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
    let row = i / params.inner;
    let inner = i - row * params.inner;
    let outer = row / params.len;
    let own = row - outer * params.len;
    let start = outer * params.len * params.inner + inner;
    let value = x[i];
    let mine = score(value);
    var rank = 0u;
    // Eight an iteration: software devices end a loop after 65,535.
    for (var n = 0u; n < params.len && rank < params.k; n += 8u) {
        rank += before(start, n, own, mine) + before(start, n + 1u, own, mine)
            + before(start, n + 2u, own, mine) + before(start, n + 3u, own, mine)
            + before(start, n + 4u, own, mine) + before(start, n + 5u, own, mine)
            + before(start, n + 6u, own, mine) + before(start, n + 7u, own, mine);
    }
    if rank < params.k {
        let to = (outer * params.k + rank) * params.inner + inner;
        values[to] = value;
        indices[to] = i32(own);
    }
}
