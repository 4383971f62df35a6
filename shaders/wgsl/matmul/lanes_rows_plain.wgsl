// Rows of a where there are no subgroups: each lane loads all of them, at addresses that the workgroup shares.

struct Rows {
    start: u32,
    first: u32,
}

fn start_rows(start: u32, first: u32, lane: u32) -> Rows {
    return Rows(start, first);
}

fn fetch_rows(rows: ptr<function, Rows>, k: u32) {
}

// Elements k .. k + 3 of row i.
fn row_quad(rows: ptr<function, Rows>, i: u32, k: u32) -> vec4<f32> {
    return load_a((*rows).start + min((*rows).first + i, params.rows - 1u) * params.depth, k);
}
