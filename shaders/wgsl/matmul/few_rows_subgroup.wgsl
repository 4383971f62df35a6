// Sums over the lanes of a workgroup that is one subgroup.

var<workgroup> sums: array<vec4<f32>, ROWS>;

fn put_sum(row: u32, value: vec4<f32>, lane: u32) {
    let sum = subgroupAdd(value);
    if lane == 0u {
        sums[row] = sum;
    }
}

// After a barrier.
fn get_sum(row: u32) -> vec4<f32> {
    return sums[row];
}
