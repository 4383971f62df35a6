// Rows of a for a workgroup that is one subgroup: lane l loads rows l, l + LANES ... and the others get them by shuffles
// whose index is constant once inlined.

struct Rows {
    starts: array<u32, 8>,
    quads: array<vec4<f32>, 8>,
}

fn start_rows(start: u32, first: u32, lane: u32) -> Rows {
    let low = first + lane + vec4<u32>(0u, 1u, 2u, 3u) * LANES;
    let last = vec4<u32>(params.rows - 1u);
    let a = start + min(low, last) * params.depth;
    let b = start + min(low + 4u * LANES, last) * params.depth;
    var rows: Rows;
    rows.starts = array<u32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
    return rows;
}

fn fetch_rows(rows: ptr<function, Rows>, k: u32) {
    (*rows).quads[0] = load_a((*rows).starts[0], k);
    if ROWS > LANES { (*rows).quads[1] = load_a((*rows).starts[1], k); }
    if ROWS > 2u * LANES { (*rows).quads[2] = load_a((*rows).starts[2], k); }
    if ROWS > 3u * LANES { (*rows).quads[3] = load_a((*rows).starts[3], k); }
    if ROWS > 4u * LANES { (*rows).quads[4] = load_a((*rows).starts[4], k); }
    if ROWS > 5u * LANES { (*rows).quads[5] = load_a((*rows).starts[5], k); }
    if ROWS > 6u * LANES { (*rows).quads[6] = load_a((*rows).starts[6], k); }
    if ROWS > 7u * LANES { (*rows).quads[7] = load_a((*rows).starts[7], k); }
}

// Elements k .. k + 3 of row i.
fn row_quad(rows: ptr<function, Rows>, i: u32, k: u32) -> vec4<f32> {
    return subgroupShuffle((*rows).quads[i / LANES], i % LANES);
}
