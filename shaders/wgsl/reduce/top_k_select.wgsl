// The k largest or smallest elements of each line in order, with their indices; of equals, the first come first. A line
// a workgroup, whose size is a power of two of at most 256: k rounds, each of which finds the best of those that come
// after the last one's. For few of many.

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

const NONE = 0xffffffffu;

var<workgroup> scores: array<u32, 256>;
var<workgroup> places: array<u32, 256>;

// NaN is the largest: first among the largest, last among the smallest.
fn score(value: Elem) -> u32 {
    let key = order_key(value);
    return select(key, ~key, SMALLEST != 0u);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = group_index(group, counts);
    if line >= params.groups {
        return;
    }
    let outer = line / params.inner;
    let inner = line - outer * params.inner;
    let start = outer * params.len * params.inner + inner;
    var last_score = 0u;
    var last_place = NONE;
    for (var rank = 0u; rank < params.k; rank++) {
        var best = 0u;
        var at = NONE;
        for (var i = lane; i < params.len; i += WORKGROUP) {
            let own = score(x[start + i * params.inner]);
            let later = last_place == NONE || own < last_score || (own == last_score && i > last_place);
            if later && (at == NONE || own > best) {
                best = own;
                at = i;
            }
        }
        scores[lane] = best;
        places[lane] = at;
        workgroupBarrier();
        for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
            if lane < half {
                let other = scores[lane + half];
                let place = places[lane + half];
                let mine = scores[lane];
                // NONE is above every place.
                if place != NONE && (places[lane] == NONE || other > mine || (other == mine && place < places[lane])) {
                    scores[lane] = other;
                    places[lane] = place;
                }
            }
            workgroupBarrier();
        }
        last_score = scores[0];
        last_place = places[0];
        if lane == 0u {
            let to = (outer * params.k + rank) * params.inner + inner;
            values[to] = x[start + min(last_place, params.len - 1u) * params.inner];
            indices[to] = i32(last_place);
        }
        // The next round overwrites what this one read.
        workgroupBarrier();
    }
}
