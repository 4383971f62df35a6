// Softmax of rows, a row a workgroup.

struct Params {
    first_group: u32,
    groups: u32,
    rows: u32,
    len: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, counts);
    if row >= params.groups {
        return;
    }
    let start = row * params.len;
    let step = WORKGROUP * WIDTH;
    var highest = vec4<f32>(LOWEST);
    var magnitude = vec4<u32>(0u);
    for (var column = lane * WIDTH; column < params.len; column += step) {
        let v = x_load(start + column);
        highest = max(highest, v);
        magnitude = max(magnitude, magnitudes(v));
    }
    let largest = vec4<f32>(reduce_max(max_of(highest), lane));
    // Whether there is NaN, as a number that survives arithmetic.
    let broken = reduce_max(select(0.0, 1.0, max_bits_of(magnitude) > INFINITE), lane);
    var sums = vec4<f32>(0.0);
    for (var column = lane * WIDTH; column < params.len; column += step) {
        sums += exp(x_load(start + column) - largest);
    }
    let sum = vec4<f32>(reduce_sum(sum_of(sums), lane));
    let none = has_none(vec4<u32>(select(0u, INFINITE + 1u, broken > 0.0)), largest, sum);
    for (var column = lane * WIDTH; column < params.len; column += step) {
        let i = start + column;
        let value = select(softmax(x_load(i), largest, sum), not_a_number(i), none);
        y_store(i, epilogue(value, i, column));
    }
}
