// Outputs whose channels, a group's too, are a multiple of 4.

@group(0) @binding(3) var<storage, read_write> y: array<Elem4>;

// Stores channels c .. c + 3 of a group, as far as there are any. Both `index`, the first one's element, and `channel`, its
// place among all channels, are multiples of 4.
fn store_y(index: u32, c: u32, channel: u32, value: vec4<f32>) {
    if c < params.cout_group {
        y[index / 4u] = Elem4(epilogue(value, index, channel));
    }
}
