// Where the inputs of an element of a broadcast result lie. Axes are merged beforehand; there are eight at most.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    // Extent of the result's last axis.
    last: u32,
    // Extents of the result, and elements between neighbours in each input: 0 where it repeats.
    extents0: vec4<u32>,
    extents1: vec4<u32>,
    a0: vec4<u32>,
    a1: vec4<u32>,
    b0: vec4<u32>,
    b1: vec4<u32>,
    c0: vec4<u32>,
    c1: vec4<u32>,
    // Number of axes.
    rank: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;

// Indices into the inputs a, b and c.
struct Place {
    a: u32,
    b: u32,
    c: u32,
}

fn place(i: u32) -> Place {
    var rest = i;
    var at = Place(0u, 0u, 0u);
    for (var axis = params.rank; axis > 0u; axis--) {
        let k = (axis - 1u) & 3u;
        let near = axis <= 4u;
        let extent = select(params.extents1[k], params.extents0[k], near);
        let step = rest % extent;
        rest /= extent;
        at.a += step * select(params.a1[k], params.a0[k], near);
        at.b += step * select(params.b1[k], params.b0[k], near);
        at.c += step * select(params.c1[k], params.c0[k], near);
    }
    return at;
}
