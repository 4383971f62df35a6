// Output y, an element at a time, the first component of a vector.

@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

fn y_store(index: u32, value: vec4<f32>) { y[index] = Elem(value.x); }
