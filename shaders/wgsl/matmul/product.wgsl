// What the kernels of a product share: its extents, and which tile of it a workgroup computes.

struct Params {
    first_group: u32,
    groups: u32,
    rows: u32,
    columns: u32,
    depth: u32,
    row_tiles: u32,
    column_tiles: u32,
    products: u32,
    // For product p = (outer, inner), a starts at a_start + outer * a_outer + inner * a_inner, b alike.
    inner: u32,
    a_start: u32,
    a_outer: u32,
    a_inner: u32,
    b_start: u32,
    b_outer: u32,
    b_inner: u32,
    // Where the result starts, the length of its rows, and which of its columns the first of these is.
    c_start: u32,
    c_stride: u32,
    c_column: u32,
    // Terms of a sum that one workgroup adds up: a multiple of 4, and all of them unless the result is a partial one.
    split_depth: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

struct Tile {
    // Its place among the tiles of its product.
    row: u32,
    column: u32,
    product: u32,
    // Which part of the sums.
    split: u32,
    // Where a and b start, in elements.
    a: u32,
    b: u32,
}

// Row tiles come first, so that a tile of b is read from the cache by all of them.
fn tile_of(group: u32) -> Tile {
    let columns = group / params.row_tiles;
    let products = columns / params.column_tiles;
    let product = products % params.products;
    let outer = product / params.inner;
    let inner = product % params.inner;
    return Tile(
        group % params.row_tiles,
        columns % params.column_tiles,
        product,
        products / params.products,
        params.a_start + outer * params.a_outer + inner * params.a_inner,
        params.b_start + outer * params.b_outer + inner * params.b_inner,
    );
}
