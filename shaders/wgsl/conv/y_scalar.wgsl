// Outputs of any number of channels.

@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

// Stores channels c .. c + 3 of a group, as far as there are any: `index` is the first one's element, `channel` its
// place among all channels.
fn store_y(index: u32, c: u32, channel: u32, value: vec4<f32>) {
    if c >= params.cout_group {
        return;
    }
    let v = epilogue(value, index, channel);
    y[index] = Elem(v.x);
    if c + 1u < params.cout_group { y[index + 1u] = Elem(v.y); }
    if c + 2u < params.cout_group { y[index + 2u] = Elem(v.z); }
    if c + 3u < params.cout_group { y[index + 3u] = Elem(v.w); }
}
