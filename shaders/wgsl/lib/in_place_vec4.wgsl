// Output y, which holds the input until it is stored over, four elements at a time: what load_vec4.wgsl and store_vec4.wgsl
// are for an input of its own.

@group(0) @binding(2) var<storage, read_write> y: array<Elem4>;

const WIDTH = 4u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(y[index / 4u]); }
fn y_store(index: u32, value: vec4<f32>) { y[index / 4u] = Elem4(value); }
