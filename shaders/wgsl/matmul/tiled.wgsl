// c = epilogue(a b) by tiles in shared memory, for GPUs: 256 invocations compute a tile of 64 ROW_BLOCKS x 64 COLUMN_BLOCKS,
// each ROW_BLOCKS x COLUMN_BLOCKS blocks of 4 x 4 in registers.
//
// A slice of SLICE terms is staged at a time. An invocation loads one block of 4 x 4 of a or of b for it, along whichever
// way lies together in memory, and keeps the next slice's in registers while it works on this one. Blocks of a are
// transposed on the way, so that everything in shared memory is read four at a time.

const TILE_ROWS = 64u * ROW_BLOCKS;
const TILE_COLUMNS = 64u * COLUMN_BLOCKS;
const A_LOADERS = TILE_ROWS * SLICE / 16u;
const B_LOADERS = TILE_COLUMNS * SLICE / 16u;

// [term][row / 4] and [term][column / 4].
var<workgroup> a_slice: array<vec4<f32>, SLICE * TILE_ROWS / 4u>;
var<workgroup> b_slice: array<vec4<f32>, SLICE * TILE_COLUMNS / 4u>;

// Sums of 4 x 4: a row an element.
alias Block = array<vec4<f32>, 4>;

fn add_block(block: ptr<function, Block>, a: vec4<f32>, b: vec4<f32>) {
    (*block)[0] += a.x * b;
    (*block)[1] += a.y * b;
    (*block)[2] += a.z * b;
    (*block)[3] += a.w * b;
}

fn store_block(block: ptr<function, Block>, tile: Tile, row: u32, column: u32) {
    let c_row = (tile.split * params.products + tile.product) * params.rows + row;
    if row < params.rows { store4(c_row, column, (*block)[0]); }
    if row + 1u < params.rows { store4(c_row + 1u, column, (*block)[1]); }
    if row + 2u < params.rows { store4(c_row + 2u, column, (*block)[2]); }
    if row + 3u < params.rows { store4(c_row + 3u, column, (*block)[3]); }
}

// Term 4 i of the slice and row or column 4 j of the tile, for loader l of so many blocks along the rows or columns.
// Neighbours take two blocks along the terms where those lie together, so that whole 32-byte sectors are read.
fn loader_place(l: u32, blocks: u32, along_depth: bool) -> vec2<u32> {
    if along_depth {
        return vec2<u32>(l / (2u * blocks) * 2u + l % 2u, l / 2u % blocks);
    }
    return vec2<u32>(l / blocks, l % blocks);
}

fn a_block(start: u32, row: u32, k: u32) -> mat4x4<f32> {
    let rows = start + min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u)) * params.depth;
    return transpose(mat4x4<f32>(load_a(rows.x, k), load_a(rows.y, k), load_a(rows.z, k), load_a(rows.w, k)));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = group_index(group_id, counts);
    if group >= params.groups {
        return;
    }
    let tile = tile_of(group);
    let first_row = tile.row * TILE_ROWS;
    let first_column = tile.column * TILE_COLUMNS;
    let first_term = tile.split * params.split_depth;
    let last_term = min(params.depth, first_term + params.split_depth);

    let loads_a = local < A_LOADERS;
    let loads_b = !loads_a && local < A_LOADERS + B_LOADERS;
    var place = loader_place(local, TILE_ROWS / 4u, true);
    if !loads_a {
        place = loader_place(local - A_LOADERS, TILE_COLUMNS / 4u, B_ALONG_DEPTH != 0u);
    }
    let a_row = first_row + place.y * 4u;
    let b_column = first_column + place.y * 4u;

    // Splits are whole slices, so that none reaches into the next one. Past the depth, units give zeros.
    var next = mat4x4<f32>();
    if loads_a && first_term + place.x * 4u < last_term {
        next = a_block(tile.a, a_row, first_term + place.x * 4u);
    } else if loads_b && first_term + place.x * 4u < last_term {
        next = load_b(tile.b, first_term + place.x * 4u, b_column);
    }

    let thread_row = local / 16u;
    let thread_column = local % 16u;
    var block00: Block;
    var block01: Block;
    var block10: Block;
    var block11: Block;
    for (var term = first_term; term < last_term; term += SLICE) {
        workgroupBarrier();
        if loads_a {
            let at = place.x * TILE_ROWS + place.y;
            a_slice[at] = next[0];
            a_slice[at + TILE_ROWS / 4u] = next[1];
            a_slice[at + TILE_ROWS / 2u] = next[2];
            a_slice[at + TILE_ROWS / 4u * 3u] = next[3];
        } else if loads_b {
            let at = place.x * TILE_COLUMNS + place.y;
            b_slice[at] = next[0];
            b_slice[at + TILE_COLUMNS / 4u] = next[1];
            b_slice[at + TILE_COLUMNS / 2u] = next[2];
            b_slice[at + TILE_COLUMNS / 4u * 3u] = next[3];
        }
        workgroupBarrier();
        let ahead = term + SLICE + place.x * 4u;
        next = mat4x4<f32>();
        if loads_a && ahead < last_term {
            next = a_block(tile.a, a_row, ahead);
        } else if loads_b && ahead < last_term {
            next = load_b(tile.b, ahead, b_column);
        }
        for (var i = 0u; i < SLICE; i++) {
            let a0 = a_slice[i * (TILE_ROWS / 4u) + thread_row];
            let b0 = b_slice[i * (TILE_COLUMNS / 4u) + thread_column];
            add_block(&block00, a0, b0);
            if COLUMN_BLOCKS > 1u {
                let b1 = b_slice[i * (TILE_COLUMNS / 4u) + thread_column + TILE_COLUMNS / 8u];
                add_block(&block01, a0, b1);
            }
            if ROW_BLOCKS > 1u {
                let a1 = a_slice[i * (TILE_ROWS / 4u) + thread_row + TILE_ROWS / 8u];
                add_block(&block10, a1, b0);
                if COLUMN_BLOCKS > 1u {
                    let b1 = b_slice[i * (TILE_COLUMNS / 4u) + thread_column + TILE_COLUMNS / 8u];
                    add_block(&block11, a1, b1);
                }
            }
        }
    }

    let row = first_row + thread_row * 4u;
    let column = first_column + thread_column * 4u;
    store_block(&block00, tile, row, column);
    if COLUMN_BLOCKS > 1u { store_block(&block01, tile, row, column + 64u); }
    if ROW_BLOCKS > 1u { store_block(&block10, tile, row + 64u, column); }
    if ROW_BLOCKS > 1u && COLUMN_BLOCKS > 1u { store_block(&block11, tile, row + 64u, column + 64u); }
}
