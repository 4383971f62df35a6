// q, k, v and y four elements at a time: head sizes and row strides are multiples of 4.

@group(0) @binding(1) var<storage, read> q: array<Elem4>;
@group(0) @binding(2) var<storage, read> k: array<Elem4>;
@group(0) @binding(3) var<storage, read> v: array<Elem4>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem4>;

fn q_load(start: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(q[start + quad]);
}

fn k_load(start: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(k[start + quad]);
}

fn v_load(start: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(v[start + quad]);
}

fn y_store(start: u32, quad: u32, value: vec4<f32>) {
    y[start + quad] = Elem4(value);
}
