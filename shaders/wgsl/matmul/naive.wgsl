// c = epilogue(a b): an element an invocation. The yardstick that other kernels are measured against, and the fallback
// for what they do not take: rows whose length is not a multiple of 4, and b read transposed.

struct Params {
    first_group: u32,
    groups: u32,
    rows: u32,
    columns: u32,
    depth: u32,
    // Elements of b between neighbours along the depth and along the columns.
    b_depth_stride: u32,
    b_column_stride: u32,
    // Products: for product p = (outer, inner), a starts at outer * a_outer + inner * a_inner, b alike.
    inner: u32,
    a_outer: u32,
    a_inner: u32,
    b_outer: u32,
    b_inner: u32,
    elements: u32,
    // Where the first product starts.
    a_start: u32,
    b_start: u32,
    c_start: u32,
}

override WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Elem>;
@group(0) @binding(2) var<storage, read> b: array<Elem>;
@group(0) @binding(3) var<storage, read_write> c: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * WORKGROUP + lane;
    if i >= params.elements {
        return;
    }
    let column = i % params.columns;
    let row = i / params.columns % params.rows;
    let product = i / params.columns / params.rows;
    let outer = product / params.inner;
    let inner = product % params.inner;
    var a_index = params.a_start + outer * params.a_outer + inner * params.a_inner + row * params.depth;
    var b_index = params.b_start + outer * params.b_outer + inner * params.b_inner + column * params.b_column_stride;
    var sum = 0.0;
    for (var k = 0u; k < params.depth; k++) {
        sum += f32(a[a_index]) * f32(b[b_index]);
        a_index += 1u;
        b_index += params.b_depth_stride;
    }
    let index = params.c_start + i;
    c[index] = Elem(epilogue(vec4<f32>(sum), index, column).x);
}
