// q, k, v and y an element at a time, for heads of any size: lanes past HEAD or VALUE are zeros and not stored.

@group(0) @binding(1) var<storage, read> q: array<Elem>;
@group(0) @binding(2) var<storage, read> k: array<Elem>;
@group(0) @binding(3) var<storage, read> v: array<Elem>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;

fn q_load(start: u32, quad: u32) -> vec4<f32> {
    var value = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        if quad * 4u + c < HEAD {
            value[c] = f32(q[start + quad * 4u + c]);
        }
    }
    return value;
}

fn k_load(start: u32, quad: u32) -> vec4<f32> {
    var value = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        if quad * 4u + c < HEAD {
            value[c] = f32(k[start + quad * 4u + c]);
        }
    }
    return value;
}

fn v_load(start: u32, quad: u32) -> vec4<f32> {
    var value = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        if quad * 4u + c < VALUE {
            value[c] = f32(v[start + quad * 4u + c]);
        }
    }
    return value;
}

fn y_store(start: u32, quad: u32, value: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        if quad * 4u + c < VALUE {
            y[start + quad * 4u + c] = Elem(value[c]);
        }
    }
}
