// Softmax of rows, a row an invocation: for short rows, and for devices on which a barrier costs more than a row.

struct Params {
    first_group: u32,
    groups: u32,
    rows: u32,
    len: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, counts) * WORKGROUP + lane;
    if row >= params.rows {
        return;
    }
    let start = row * params.len;
    let end = start + params.len;
    var highest = vec4<f32>(LOWEST);
    var magnitude = vec4<u32>(0u);
    for (var i = start; i < end; i += WIDTH) {
        let v = x_load(i);
        highest = max(highest, v);
        magnitude = max(magnitude, magnitudes(v));
    }
    let largest = vec4<f32>(max_of(highest));
    var sums = vec4<f32>(0.0);
    for (var i = start; i < end; i += WIDTH) {
        sums += exp(x_load(i) - largest);
    }
    let sum = vec4<f32>(sum_of(sums));
    let none = has_none(vec4<u32>(max_bits_of(magnitude)), largest, sum);
    for (var column = 0u; column < params.len; column += WIDTH) {
        let i = start + column;
        let value = select(softmax(x_load(i), largest, sum), not_a_number(i), none);
        y_store(i, epilogue(value, i, column));
    }
}
