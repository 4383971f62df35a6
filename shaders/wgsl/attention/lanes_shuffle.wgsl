// Eight keys or values for a workgroup that is one subgroup of eight: lane i loads number i, and the others get it by
// shuffles whose index is constant once inlined.

struct Eight {
    quad: vec4<f32>,
}

// Where a lane's rows of a tile start.
struct Rows {
    starts: vec4<u32>,
}

fn rows_at(start: u32, stride: u32, first: u32, lane: u32) -> Rows {
    let index = first + lane + vec4<u32>(0u, 8u, 16u, 24u);
    return Rows(start + min(index, vec4<u32>(params.keys - 1u)) * stride);
}

fn k_eight(rows: Rows, block: u32, quad: u32) -> Eight {
    return Eight(k_load(rows.starts[block], quad));
}

fn v_eight(rows: Rows, block: u32, quad: u32) -> Eight {
    return Eight(v_load(rows.starts[block], quad));
}

fn one(eight: Eight, i: u32) -> vec4<f32> {
    return subgroupShuffle(eight.quad, i);
}
