// A lane's sums over values, in scratch memory that no other lane touches.
@group(0) @binding(8) var<storage, read_write> all_sums: array<vec4<f32>>;

var<private> first_sum: u32;

fn start_sums(index: u32) {
    first_sum = index * VALUE_QUADS * 4u;
    for (var d = 0u; d < VALUE_QUADS; d++) {
        store_sums(d, mat4x4<f32>());
    }
}

fn load_sums(quad: u32) -> mat4x4<f32> {
    let at = first_sum + quad * 4u;
    return mat4x4<f32>(all_sums[at], all_sums[at + 1u], all_sums[at + 2u], all_sums[at + 3u]);
}

fn store_sums(quad: u32, sums: mat4x4<f32>) {
    let at = first_sum + quad * 4u;
    all_sums[at] = sums[0];
    all_sums[at + 1u] = sums[1];
    all_sums[at + 2u] = sums[2];
    all_sums[at + 3u] = sums[3];
}
