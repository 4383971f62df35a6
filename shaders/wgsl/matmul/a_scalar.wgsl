// Rows of a of any length; what lies past the end of one is zero.

@group(0) @binding(1) var<storage, read> a: array<Elem>;

fn a_at(start: u32, k: u32) -> f32 {
    return select(0.0, f32(a[start + min(k, params.depth - 1u)]), k < params.depth);
}

// Elements k .. k + 3 of the row that starts at element `start`.
fn load_a(start: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(a_at(start, k), a_at(start, k + 1u), a_at(start, k + 2u), a_at(start, k + 3u));
}
