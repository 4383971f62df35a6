// Input x and output y, four elements at a time: indices are multiples of 4. access_scalar.wgsl is the same for any
// length, an element at a time; kernels over either are written once.

@group(0) @binding(1) var<storage, read> x: array<Elem4>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem4>;

// Elements a load gives.
const WIDTH = 4u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(x[index / 4u]); }
fn y_store(index: u32, value: vec4<f32>) { y[index / 4u] = Elem4(value); }

fn sum_of(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn max_of(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn max_bits_of(v: vec4<u32>) -> u32 { return max(max(v.x, v.y), max(v.z, v.w)); }
