// Output y, four elements at a time: indices are multiples of 4.

@group(0) @binding(2) var<storage, read_write> y: array<Elem4>;

fn y_store(index: u32, value: vec4<f32>) { y[index / 4u] = Elem4(value); }
