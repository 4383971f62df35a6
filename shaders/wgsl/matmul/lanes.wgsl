// Products without shared memory or barriers: ROWS x 8 sums a lane, in registers. For software rasterisers, where each
// load is a loop over the lanes and a barrier suspends every one of them.
//
// A workgroup of LANES lanes computes ROWS x (8 LANES) of one product. Its lanes share the rows of a (unit `lanes_rows_*`)
// and have eight columns of b each (unit `b_*`). What becomes of the sums is another unit's. Loops over registers are written out: a driver that does not unroll them
// keeps the sums in memory. ROWS is 1 or a multiple of 4.

// Eight sums of each of four rows: row r's are 2 r and 2 r + 1.
alias Block = array<vec4<f32>, 8>;

// Four terms of four sums: a along the depth, b's columns[i] its row i.
fn add4(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return sum + a.x * b[0] + a.y * b[1] + a.z * b[2] + a.w * b[3];
}

fn add_rows(block: ptr<function, Block>, rows: ptr<function, Rows>, first: u32, k: u32, left: mat4x4<f32>, right: mat4x4<f32>) {
    let a0 = row_quad(rows, first, k);
    (*block)[0] = add4((*block)[0], a0, left);
    (*block)[1] = add4((*block)[1], a0, right);
    if ROWS == 1u {
        return;
    }
    let a1 = row_quad(rows, first + 1u, k);
    (*block)[2] = add4((*block)[2], a1, left);
    (*block)[3] = add4((*block)[3], a1, right);
    let a2 = row_quad(rows, first + 2u, k);
    (*block)[4] = add4((*block)[4], a2, left);
    (*block)[5] = add4((*block)[5], a2, right);
    let a3 = row_quad(rows, first + 3u, k);
    (*block)[6] = add4((*block)[6], a3, left);
    (*block)[7] = add4((*block)[7], a3, right);
}

// Stores the first `count` rows of a block.
fn store_block(block: ptr<function, Block>, row: u32, column: u32, count: u32) {
    store_row(row, column, (*block)[0], (*block)[1]);
    if count > 1u { store_row(row + 1u, column, (*block)[2], (*block)[3]); }
    if count > 2u { store_row(row + 2u, column, (*block)[4], (*block)[5]); }
    if count > 3u { store_row(row + 3u, column, (*block)[6], (*block)[7]); }
}

@compute @workgroup_size(LANES)
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
    let first_row = tile.row * ROWS;
    let first_column = (tile.column * LANES + lane) * 8u;
    var rows = start_rows(tile.a, first_row, lane);

    // ROWS is a constant, and blocks past it cost nothing.
    var block0: Block;
    var block1: Block;
    var block2: Block;
    var block3: Block;
    var block4: Block;
    var block5: Block;
    var block6: Block;
    var block7: Block;
    for (var k = 0u; k < params.depth; k += 4u) {
        let left = load_b(tile.b, k, first_column);
        let right = load_b(tile.b, k, first_column + 4u);
        see_columns(left, right);
        fetch_rows(&rows, k);
        add_rows(&block0, &rows, 0u, k, left, right);
        if ROWS > 4u { add_rows(&block1, &rows, 4u, k, left, right); }
        if ROWS > 8u { add_rows(&block2, &rows, 8u, k, left, right); }
        if ROWS > 12u { add_rows(&block3, &rows, 12u, k, left, right); }
        if ROWS > 16u { add_rows(&block4, &rows, 16u, k, left, right); }
        if ROWS > 20u { add_rows(&block5, &rows, 20u, k, left, right); }
        if ROWS > 24u { add_rows(&block6, &rows, 24u, k, left, right); }
        if ROWS > 28u { add_rows(&block7, &rows, 28u, k, left, right); }
    }

    // The blocks move up instead of being indexed, so that they can stay registers and the epilogue is there only once.
    let last_row = min(ROWS, params.rows - first_row);
    let c_row = tile.product * params.rows + first_row;
    for (var row = 0u; row < last_row; row += 4u) {
        store_block(&block0, c_row + row, first_column, last_row - row);
        block0 = block1;
        block1 = block2;
        block2 = block3;
        block3 = block4;
        block4 = block5;
        block5 = block6;
        block6 = block7;
    }
}
