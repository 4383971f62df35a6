// Input x and output y, an element at a time, in the first component of a vector.

@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

// Elements a load gives.
const WIDTH = 1u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(f32(x[index])); }
fn y_store(index: u32, value: vec4<f32>) { y[index] = Elem(value.x); }

fn sum_of(v: vec4<f32>) -> f32 { return v.x; }
fn max_of(v: vec4<f32>) -> f32 { return v.x; }
fn max_bits_of(v: vec4<u32>) -> u32 { return v.x; }
