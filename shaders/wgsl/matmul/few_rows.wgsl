// c = epilogue(a b) for at most 16 rows: a workgroup computes four columns of all of them, its lanes side by side along the
// depth. Reads b once, which is what such a product costs. ROWS is 1 or a multiple of 4.

override WORKGROUP = 64u;

// Sums of four columns of four rows.
alias Block = array<vec4<f32>, 4>;

// Four terms of four sums: a along the depth, b's columns[i] its row i.
fn add4(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return sum + a.x * b[0] + a.y * b[1] + a.z * b[2] + a.w * b[3];
}

fn row_start(start: u32, row: u32) -> u32 {
    return start + min(row, params.rows - 1u) * params.depth;
}

fn add_rows(block: ptr<function, Block>, start: u32, row: u32, k: u32, b: mat4x4<f32>) {
    (*block)[0] = add4((*block)[0], load_a(row_start(start, row), k), b);
    if ROWS > 1u {
        (*block)[1] = add4((*block)[1], load_a(row_start(start, row + 1u), k), b);
        (*block)[2] = add4((*block)[2], load_a(row_start(start, row + 2u), k), b);
        (*block)[3] = add4((*block)[3], load_a(row_start(start, row + 3u), k), b);
    }
}

fn put_block(block: ptr<function, Block>, row: u32, lane: u32) {
    put_sum(row, (*block)[0], lane);
    if ROWS > 1u {
        put_sum(row + 1u, (*block)[1], lane);
        put_sum(row + 2u, (*block)[2], lane);
        put_sum(row + 3u, (*block)[3], lane);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(group_id, counts);
    if group >= params.groups {
        return;
    }
    let tile = tile_of(group);
    let column = tile.column * 4u;
    var block0: Block;
    var block1: Block;
    var block2: Block;
    var block3: Block;
    for (var k = lane * 4u; k < params.depth; k += WORKGROUP * 4u) {
        let b = load_b(tile.b, k, column);
        add_rows(&block0, tile.a, 0u, k, b);
        if ROWS > 4u { add_rows(&block1, tile.a, 4u, k, b); }
        if ROWS > 8u { add_rows(&block2, tile.a, 8u, k, b); }
        if ROWS > 12u { add_rows(&block3, tile.a, 12u, k, b); }
    }
    put_block(&block0, 0u, lane);
    if ROWS > 4u { put_block(&block1, 4u, lane); }
    if ROWS > 8u { put_block(&block2, 8u, lane); }
    if ROWS > 12u { put_block(&block3, 12u, lane); }
    workgroupBarrier();
    for (var row = lane; row < min(ROWS, params.rows); row += WORKGROUP) {
        store4(tile.product * params.rows + row, column, get_sum(row));
    }
}
