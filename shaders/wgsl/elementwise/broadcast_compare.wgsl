// Truth of a comparison of pairs of elements, both inputs broadcast, an element an invocation.

override FUNCTION = 0u;

@group(0) @binding(1) var<storage, read> a: array<Elem>;
@group(0) @binding(2) var<storage, read> b: array<Elem>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

fn compare(p: Comparable, q: Comparable) -> bool {
    // NaN is unequal to everything and compares with nothing.
    if unordered(p) || unordered(q) {
        return FUNCTION == 1u;
    }
    switch FUNCTION {
        case 0u: { return p == q; }
        case 1u: { return p != q; }
        case 2u: { return p < q; }
        case 3u: { return p <= q; }
        case 4u: { return p > q; }
        default: { return p >= q; }
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
    y[i] = select(0u, 1u, compare(Comparable(a[at.a]), Comparable(b[at.b])));
}
