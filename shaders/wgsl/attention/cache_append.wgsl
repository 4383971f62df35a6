// New rows moved to their place in a cache, an item (four elements or one) an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    // New items of all batches, new rows and rows of the cache a batch, items a row.
    items: u32,
    rows: u32,
    capacity: u32,
    row: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> position: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.items {
        return;
    }
    let new_row = i / params.row;
    let row = new_row % params.rows + min(position[0], params.capacity);
    if row >= params.capacity {
        return;
    }
    let batch = new_row / params.rows;
    cache[(batch * params.capacity + row) * params.row + i % params.row] = new_rows[i];
}
