// q, k, v and y an element at a time, for heads of any size: lanes past HEAD or VALUE are zeros and not stored. No loops: software
// drivers keep those as they are.

@group(0) @binding(1) var<storage, read> q: array<Elem>;
@group(0) @binding(2) var<storage, read> k: array<Elem>;
@group(0) @binding(3) var<storage, read> v: array<Elem>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;

fn q_load(start: u32, quad: u32) -> vec4<f32> {
    let at = quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let place = start + min(at, vec4<u32>(HEAD - 1u));
    let value = vec4<f32>(f32(q[place.x]), f32(q[place.y]), f32(q[place.z]), f32(q[place.w]));
    return select(vec4<f32>(0.0), value, at < vec4<u32>(HEAD));
}

fn k_load(start: u32, quad: u32) -> vec4<f32> {
    let at = quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let place = start + min(at, vec4<u32>(HEAD - 1u));
    let value = vec4<f32>(f32(k[place.x]), f32(k[place.y]), f32(k[place.z]), f32(k[place.w]));
    return select(vec4<f32>(0.0), value, at < vec4<u32>(HEAD));
}

fn v_load(start: u32, quad: u32) -> vec4<f32> {
    let at = quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let place = start + min(at, vec4<u32>(VALUE - 1u));
    let value = vec4<f32>(f32(v[place.x]), f32(v[place.y]), f32(v[place.z]), f32(v[place.w]));
    return select(vec4<f32>(0.0), value, at < vec4<u32>(VALUE));
}

fn y_store(start: u32, quad: u32, value: vec4<f32>) {
    let at = quad * 4u;
    y[start + at] = Elem(value.x);
    if at + 1u < VALUE { y[start + at + 1u] = Elem(value.y); }
    if at + 2u < VALUE { y[start + at + 2u] = Elem(value.z); }
    if at + 3u < VALUE { y[start + at + 3u] = Elem(value.w); }
}
