// Reductions over a workgroup of WORKGROUP invocations (a multiple of 16, at most 256) through shared memory, in two
// steps and in a fixed order. Every invocation must take part, and each gets the result.

override WORKGROUP = 64u;

var<workgroup> reduce_lanes: array<f32, 256>;
var<workgroup> reduce_sixteen: array<f32, 16>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    // What an earlier reduction left may still be read.
    workgroupBarrier();
    reduce_lanes[lane] = value;
    workgroupBarrier();
    if lane < 16u {
        var sum = 0.0;
        for (var i = lane; i < WORKGROUP; i += 16u) {
            sum += reduce_lanes[i];
        }
        reduce_sixteen[lane] = sum;
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < 16u; i++) {
        sum += reduce_sixteen[i];
    }
    return sum;
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    workgroupBarrier();
    if lane < 16u {
        var largest = reduce_lanes[lane];
        for (var i = lane; i < WORKGROUP; i += 16u) {
            largest = max(largest, reduce_lanes[i]);
        }
        reduce_sixteen[lane] = largest;
    }
    workgroupBarrier();
    var largest = reduce_sixteen[0];
    for (var i = 1u; i < 16u; i++) {
        largest = max(largest, reduce_sixteen[i]);
    }
    return largest;
}
