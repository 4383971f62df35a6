// Output y, which holds the input until it is stored over, an element at a time, in the first component of a vector: what
// load_scalar.wgsl and store_scalar.wgsl are for an input of its own.

@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

const WIDTH = 1u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(f32(y[index])); }
fn y_store(index: u32, value: vec4<f32>) { y[index] = Elem(value.x); }
