// A lane's sums over values, in its own memory: for heads of a few registers, since drivers do not take long arrays well.
var<private> all_sums: array<vec4<f32>, VALUE_QUADS * 4u>;

fn start_sums(index: u32) {
}

fn load_sums(quad: u32) -> mat4x4<f32> {
    let at = quad * 4u;
    return mat4x4<f32>(all_sums[at], all_sums[at + 1u], all_sums[at + 2u], all_sums[at + 3u]);
}

fn store_sums(quad: u32, sums: mat4x4<f32>) {
    let at = quad * 4u;
    all_sums[at] = sums[0];
    all_sums[at + 1u] = sums[1];
    all_sums[at + 2u] = sums[2];
    all_sums[at + 3u] = sums[3];
}
