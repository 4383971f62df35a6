// y = x with parts put, or added, where ids say: y[outer, ids[m], inner] = or += src[outer, m, inner]. An element of y
// an invocation, which looks for what is meant for it: the order is fixed, so that equal indices are no race.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    // Elements behind one index of the axis.
    run: u32,
    // Extent of the axis in x and y.
    extent: u32,
    // Extent of the axis in src.
    parts: u32,
    // Strides of ids: for (outer, m, inner).
    ids_outer: u32,
    ids_part: u32,
    ids_inner: u32,
    // Parts of this dispatch; where they are not the first, y has what those before left.
    first_part: u32,
    end_part: u32,
}

override WORKGROUP = 64u;
// 1 to add.
override ADD = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> src: array<Elem>;
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
    let row = i / params.run;
    let inner = i - row * params.run;
    let outer = row / params.extent;
    let own = row - outer * params.extent;
    let ids_start = outer * params.ids_outer + inner * params.ids_inner;
    let src_start = outer * params.parts * params.run + inner;
    var before: Elem;
    if params.first_part == 0u {
        before = x[i];
    } else {
        before = y[i];
    }
    if ADD != 0u {
        var sum = f32(before);
        for (var m = params.first_part; m < params.end_part; m++) {
            if ids[ids_start + m * params.ids_part] == own {
                sum += f32(src[src_start + m * params.run]);
            }
        }
        y[i] = Elem(sum);
    } else {
        var value = before;
        for (var m = params.first_part; m < params.end_part; m++) {
            if ids[ids_start + m * params.ids_part] == own {
                value = src[src_start + m * params.run];
            }
        }
        y[i] = value;
    }
}
