// Sines and cosines of time steps at falling frequencies. An element an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    dim: u32,
    // Whether the cosines come first.
    flip: u32,
    scale: f32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> t: array<Elem>;
@group(0) @binding(2) var<storage, read> frequencies: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.len {
        return;
    }
    let row = i / params.dim;
    let column = i - row * params.dim;
    let half_dim = params.dim / 2u;
    // An odd last column stays zero.
    if column >= 2u * half_dim {
        y[i] = Out(0.0);
        return;
    }
    let second = column >= half_dim;
    let frequency = frequencies[select(column, column - half_dim, second)];
    let wave = sin_cos(params.scale * (f32(t[row]) * frequency));
    y[i] = Out(select(wave.x, wave.y, second != (params.flip != 0u)));
}
