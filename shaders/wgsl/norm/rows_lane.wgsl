// Normalises rows, a row an invocation: for short rows, and for devices on which a barrier costs more than a row.

override WORKGROUP = 64u;

// Loads that are summed before they join the row's sum, so that its rounding errors stay small in long rows.
const RUN = 64u;

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
    // The mean, relative to an element, so that rows far from zero lose nothing.
    var mean = 0.0;
    if CENTRED != 0u {
        let first = x_load(start).x;
        var sum = vec4<f32>(0.0);
        for (var run = start; run < end; run += RUN * WIDTH) {
            var part = vec4<f32>(0.0);
            for (var i = run; i < min(run + RUN * WIDTH, end); i += WIDTH) {
                part += x_load(i) - first;
            }
            sum += part;
        }
        mean = first + sum_of(sum) / f32(params.len);
    }
    var sum = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var run = start; run < end; run += RUN * WIDTH) {
        var part = vec4<f32>(0.0);
        var part_squares = vec4<f32>(0.0);
        for (var i = run; i < min(run + RUN * WIDTH, end); i += WIDTH) {
            let deviation = x_load(i) - mean;
            part += deviation;
            part_squares += deviation * deviation;
        }
        sum += part;
        squares += part_squares;
    }
    // What rounding the mean left over.
    let rest = select(0.0, sum_of(sum) / f32(params.len), CENTRED != 0u);
    let factor = rows_factor(sum_of(squares), rest);
    for (var column = 0u; column < params.len; column += WIDTH) {
        let i = start + column;
        y_store(i, epilogue((x_load(i) - mean - rest) * factor, i, column));
    }
}
