// A reduction, an output a workgroup, whose size is a power of two of at most 256.

override WORKGROUP = 64u;

var<workgroup> lanes: array<f32, 256>;

// All lanes' parts together, in a fixed order; every invocation must take part.
fn combine_lanes(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    lanes[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        workgroupBarrier();
    }
    return lanes[0];
}

fn largest_of_lanes(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    lanes[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lanes[lane] = larger(lanes[lane], lanes[lane + half]);
        }
        workgroupBarrier();
    }
    return lanes[0];
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let output = group_index(group, counts);
    if output >= params.groups {
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
        for (var i = lane; i < params.count; i += WORKGROUP) {
            sum += load(start, i) - first;
        }
        centre = first + combine_lanes(sum, lane) / f32(params.count);
    }
    if KIND == LOGSUMEXP {
        var largest = first;
        for (var i = lane; i < params.count; i += WORKGROUP) {
            largest = larger(largest, load(start, i));
        }
        centre = largest_of_lanes(largest, lane);
        if is_infinite(centre) {
            centre = 0.0;
        }
    }
    var part = neutral(first);
    for (var i = lane; i < params.count; i += WORKGROUP) {
        part = combine(part, term(load(start, i), centre));
    }
    let total = combine_lanes(part, lane);
    if lane == 0u {
        y[output] = Elem(finish(total, centre));
    }
}
