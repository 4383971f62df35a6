// Looks for numbers beyond a range: ORs what it finds into the tensor's word. Sixteen bytes an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    // Elements of x.
    len: u32,
    // The tensor's word.
    slot: u32,
    // Bits of the largest f32 within the range.
    limit: u32,
}

override WORKGROUP = 64u;

const POSITIVE = 1u;
const NEGATIVE = 2u;
const NOT_A_NUMBER = 4u;
const WIDE = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> found: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    let first = i * ELEMENTS;
    if first >= params.len {
        return;
    }
    let words = x[i];
    var excess = 0u;
    for (var k = 0u; k < min(ELEMENTS, params.len - first); k++) {
        excess |= excess_of(words, k);
    }
    if excess != 0u {
        atomicOr(&found[params.slot], excess);
    }
}
