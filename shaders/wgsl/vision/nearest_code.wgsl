// Squared distances of four rows of x to a code.

struct Params {
    first_group: u32,
    groups: u32,
    rows: u32,
    codes: u32,
    // Elements of a row and of a code.
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> y: array<i32>;

const ROWS = 4u;
const FARTHEST = 3.40282347e38;

// Where four rows begin; rows past the last are the last again.
fn starts(first: u32) -> vec4<u32> {
    let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
    return rows * params.channels;
}

fn distances(rows: vec4<u32>, code: u32) -> vec4<f32> {
    let start = code * params.channels;
    var sums = vec4<f32>(0.0);
    for (var c = 0u; c < params.channels; c += WIDTH) {
        let e = code_load(start + c);
        let d0 = x_load(rows.x + c) - e;
        let d1 = x_load(rows.y + c) - e;
        let d2 = x_load(rows.z + c) - e;
        let d3 = x_load(rows.w + c) - e;
        sums += vec4<f32>(dot(d0, d0), dot(d1, d1), dot(d2, d2), dot(d3, d3));
    }
    return sums;
}

fn store(first: u32, codes: vec4<u32>) {
    for (var r = 0u; r < ROWS && first + r < params.rows; r++) {
        y[first + r] = i32(min(codes[r], params.codes - 1u));
    }
}
