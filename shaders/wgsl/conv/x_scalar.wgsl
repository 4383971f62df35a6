// Inputs of any number of channels.

@group(0) @binding(1) var<storage, read> x: array<Elem>;

// Channels c .. c + 3 of the group that starts at channel `first` of the pixel at element `start`; zeros if that is
// OUTSIDE and past the end of the group.
fn load_x(start: u32, first: u32, c: u32) -> vec4<f32> {
    let i = start + first;
    let end = select(params.cin_group, 0u, start == OUTSIDE);
    return vec4<f32>(x_at(i, c, end), x_at(i, c + 1u, end), x_at(i, c + 2u, end), x_at(i, c + 3u, end));
}

fn x_at(start: u32, c: u32, end: u32) -> f32 {
    return select(0.0, f32(x[select(0u, start + c, c < end)]), c < end);
}
