// Vectors and codes, four elements at a time: indices are multiples of 4.

@group(0) @binding(1) var<storage, read> x: array<Elem4>;
@group(0) @binding(2) var<storage, read> codebook: array<Elem4>;

// Elements a load gives.
const WIDTH = 4u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(x[index / 4u]); }
fn code_load(index: u32) -> vec4<f32> { return vec4<f32>(codebook[index / 4u]); }
