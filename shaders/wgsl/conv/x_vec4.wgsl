// Inputs whose channels, a group's too, are a multiple of 4.

@group(0) @binding(1) var<storage, read> x: array<Elem4>;

// Channels c .. c + 3 of the group that starts at channel `first` of the pixel at element `start`; zeros if that is
// OUTSIDE.
fn load_x(start: u32, first: u32, c: u32) -> vec4<f32> {
    let inside = start != OUTSIDE;
    return select(vec4<f32>(0.0), vec4<f32>(x[select(0u, (start + first + c) / 4u, inside)]), inside);
}
