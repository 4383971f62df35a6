// Vectors and codes, an element at a time, with zeros behind it.

@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> codebook: array<Elem>;

// Elements a load gives.
const WIDTH = 1u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(f32(x[index]), 0.0, 0.0, 0.0); }
fn code_load(index: u32) -> vec4<f32> { return vec4<f32>(f32(codebook[index]), 0.0, 0.0, 0.0); }
