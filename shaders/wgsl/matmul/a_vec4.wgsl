// Rows of a whose length is a multiple of 4.

@group(0) @binding(1) var<storage, read> a: array<Elem4>;

// Elements k .. k + 3 of the row that starts at element `start`; k is a multiple of 4.
fn load_a(start: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(a[(start + k) / 4u]);
}
