// A reduction, an output an invocation.

override WORKGROUP = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let output = group_index(group, counts) * WORKGROUP + lane;
    if output >= params.outputs {
        return;
    }
    let start = start_of(output);
    var first = 0.0;
    if params.count > 0u {
        first = load(start, 0u);
    }
    var centre = 0.0;
    if KIND == VAR || KIND == STD {
        // Relative to an element, so that numbers far from zero lose nothing.
        var sum = 0.0;
        for (var run = 0u; run < params.count; run += 64u) {
            var part = 0.0;
            for (var i = run; i < min(run + 64u, params.count); i++) {
                part += load(start, i) - first;
            }
            sum += part;
        }
        centre = first + sum / f32(params.count);
    }
    if KIND == LOGSUMEXP {
        centre = first;
        for (var i = 1u; i < params.count; i++) {
            centre = larger(centre, load(start, i));
        }
        if is_infinite(centre) {
            centre = 0.0;
        }
    }
    // Runs of 64, so that rounding grows with the number of runs.
    var total = neutral(first);
    for (var run = 0u; run < params.count; run += 64u) {
        var part = neutral(first);
        for (var i = run; i < min(run + 64u, params.count); i++) {
            part = combine(part, term(load(start, i), centre));
        }
        total = combine(total, part);
    }
    y[output] = Elem(finish(total, centre));
}
