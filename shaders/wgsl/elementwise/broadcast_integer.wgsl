// Integer arithmetic and logic on pairs of elements, both inputs broadcast, an element an invocation. Overflow wraps.

override FUNCTION = 0u;

@group(0) @binding(1) var<storage, read> a: array<Elem>;
@group(0) @binding(2) var<storage, read> b: array<Elem>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

fn combine(p: Elem, q: Elem) -> Elem {
    switch FUNCTION {
        case 0u: { return p + q; }
        case 1u: { return p - q; }
        case 2u: { return p * q; }
        case 3u: { return min(p, q); }
        case 4u: { return max(p, q); }
        case 5u: { return p & q; }
        case 6u: { return p | q; }
        default: { return p ^ q; }
    }
}

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
    let at = place(i);
    y[i] = combine(a[at.a], b[at.b]);
}
