// Eight keys or values where there are no subgroups of eight: each lane loads them all, at addresses that the
// workgroup shares.

struct Eight {
    quads: array<vec4<f32>, 8>,
}

struct Rows {
    start: u32,
    stride: u32,
    first: u32,
}

fn rows_at(start: u32, stride: u32, first: u32, lane: u32) -> Rows {
    return Rows(start, stride, first);
}

fn row_at(rows: Rows, i: u32) -> u32 {
    return rows.start + min(rows.first + i, params.keys - 1u) * rows.stride;
}

fn k_eight(rows: Rows, block: u32, quad: u32) -> Eight {
    let i = block * 8u;
    return Eight(array<vec4<f32>, 8>(
        k_load(row_at(rows, i), quad),
        k_load(row_at(rows, i + 1u), quad),
        k_load(row_at(rows, i + 2u), quad),
        k_load(row_at(rows, i + 3u), quad),
        k_load(row_at(rows, i + 4u), quad),
        k_load(row_at(rows, i + 5u), quad),
        k_load(row_at(rows, i + 6u), quad),
        k_load(row_at(rows, i + 7u), quad),
    ));
}

fn v_eight(rows: Rows, block: u32, quad: u32) -> Eight {
    let i = block * 8u;
    return Eight(array<vec4<f32>, 8>(
        v_load(row_at(rows, i), quad),
        v_load(row_at(rows, i + 1u), quad),
        v_load(row_at(rows, i + 2u), quad),
        v_load(row_at(rows, i + 3u), quad),
        v_load(row_at(rows, i + 4u), quad),
        v_load(row_at(rows, i + 5u), quad),
        v_load(row_at(rows, i + 6u), quad),
        v_load(row_at(rows, i + 7u), quad),
    ));
}

fn one(eight: Eight, i: u32) -> vec4<f32> {
    return eight.quads[i];
}
