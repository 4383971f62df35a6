// Rotary embedding: pairs of a head's elements rotated by their position's angles. An element an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    // Elements of a head.
    dim: u32,
    // Pairs that are rotated; the elements behind them stay.
    pairs: u32,
    // Heads between neighbouring positions.
    heads: u32,
    positions: u32,
}

override WORKGROUP = 64u;
// 1 where pairs are neighbours, 0 where they lie half the rotated part apart.
override INTERLEAVED = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> cosines: array<Elem>;
@group(0) @binding(3) var<storage, read> sines: array<Elem>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;

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
    let head = i / params.dim;
    let column = i - head * params.dim;
    if column >= 2u * params.pairs {
        y[i] = x[i];
        return;
    }
    var second = column >= params.pairs;
    var pair = select(column, column - params.pairs, second);
    var distance = params.pairs;
    if INTERLEAVED != 0u {
        second = (column & 1u) == 1u;
        pair = column / 2u;
        distance = 1u;
    }
    let position = head / params.heads % params.positions;
    let cosine = f32(cosines[position * params.pairs + pair]);
    let sine = f32(sines[position * params.pairs + pair]);
    let own = f32(x[i]);
    if second {
        y[i] = Elem(own * cosine + f32(x[i - distance]) * sine);
    } else {
        y[i] = Elem(own * cosine - f32(x[i + distance]) * sine);
    }
}
