// Input x, an element at a time, in the first component of a vector.

@group(0) @binding(1) var<storage, read> x: array<Elem>;

// Elements a load gives.
const WIDTH = 1u;

fn x_load(index: u32) -> vec4<f32> { return vec4<f32>(f32(x[index])); }

// Over a load's elements.
fn sum_of(v: vec4<f32>) -> f32 { return v.x; }
fn max_of(v: vec4<f32>) -> f32 { return v.x; }
fn max_bits_of(v: vec4<u32>) -> u32 { return v.x; }
