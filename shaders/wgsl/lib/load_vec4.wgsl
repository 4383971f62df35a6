// Input x, four elements at a time: indices are multiples of 4. load_scalar.wgsl is the same for any length, so that
// kernels over either are written once.

@group(0) @binding(1) var<storage, read> x: array<Elem4>;

// Elements a load gives.
const WIDTH = 4u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(x[index / 4u]); }

// Over a load's elements.
fn sum_of(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn max_of(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn max_bits_of(v: vec4<u32>) -> u32 { return max(max(v.x, v.y), max(v.z, v.w)); }
