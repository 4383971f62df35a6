// Normalises rows, a row a workgroup.

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
    // The mean, relative to an element, so that rows far from zero lose nothing.
    var mean = 0.0;
    if CENTRED != 0u {
        let first = x_load(start).x;
        var sum = vec4<f32>(0.0);
        for (var column = lane * WIDTH; column < params.len; column += step) {
            sum += x_load(start + column) - first;
        }
        mean = first + reduce_sum(sum_of(sum), lane) / f32(params.len);
    }
    var sum = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var column = lane * WIDTH; column < params.len; column += step) {
        let deviation = x_load(start + column) - mean;
        sum += deviation;
        squares += deviation * deviation;
    }
    // What rounding the mean left over.
    var rest = 0.0;
    if CENTRED != 0u {
        rest = reduce_sum(sum_of(sum), lane) / f32(params.len);
    }
    let factor = rows_factor(reduce_sum(sum_of(squares), lane), rest);
    for (var column = lane * WIDTH; column < params.len; column += step) {
        let i = start + column;
        y_store(i, epilogue((x_load(i) - mean - rest) * factor, i, column));
    }
}
