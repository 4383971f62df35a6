// Index of the largest or smallest element of each line; the first of equals, a NaN before all. A line a workgroup,
// whose size is a power of two of at most 256.

struct Params {
    first_group: u32,
    groups: u32,
    lines: u32,
    len: u32,
    // Elements between neighbours of a line.
    inner: u32,
}

override WORKGROUP = 64u;
// 1 for the smallest.
override SMALLEST = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<i32>;

var<workgroup> scores: array<u32, 256>;
var<workgroup> places: array<u32, 256>;

fn score(value: Elem) -> u32 {
    let key = order_key(value);
    if SMALLEST != 0u && !is_nan_key(key) {
        return ~key;
    }
    return key;
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
    let start = outer * params.len * params.inner + (line - outer * params.inner);
    // A lane past the line's end repeats its last element, which changes nothing.
    var at = min(lane, params.len - 1u);
    var best = score(x[start + at * params.inner]);
    for (var i = lane + WORKGROUP; i < params.len; i += WORKGROUP) {
        let other = score(x[start + i * params.inner]);
        if other > best {
            best = other;
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
            if other > scores[lane] || (other == scores[lane] && place < places[lane]) {
                scores[lane] = other;
                places[lane] = place;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        y[line] = i32(places[0]);
    }
}
