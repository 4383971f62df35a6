// Sums over the lanes of a workgroup. 16 rows of 64 lanes are the 16 KiB that every device has.

var<workgroup> sums: array<vec4<f32>, ROWS * 64u>;

fn put_sum(row: u32, value: vec4<f32>, lane: u32) {
    sums[lane * ROWS + row] = value;
}

// After a barrier.
fn get_sum(row: u32) -> vec4<f32> {
    var sum = sums[row];
    for (var lane = 1u; lane < WORKGROUP; lane++) {
        sum += sums[lane * ROWS + row];
    }
    return sum;
}
