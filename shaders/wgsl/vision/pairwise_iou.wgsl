// Overlap of every box of a with every box of b. A pair an invocation.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    columns: u32,
}

override WORKGROUP = 64u;
// 0 IoU, 1 generalised, 2 distance, 3 complete.
override KIND = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Elem4>;
@group(0) @binding(2) var<storage, read> b: array<Elem4>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

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
    let row = i / params.columns;
    let p = vec4<f32>(a[row]);
    let q = vec4<f32>(b[i - row * params.columns]);
    let inter = intersection(p, q);
    let total = box_area(p) + box_area(q) - inter;
    var result = inter / total;
    // The smallest box around both.
    let hull = max(max(p.zw, q.zw) - min(p.xy, q.xy), vec2<f32>(0.0));
    if KIND == 1u {
        let area = hull.x * hull.y;
        result = result - (area - total) / area;
    }
    if KIND >= 2u {
        let apart = 0.5 * ((p.xy + p.zw) - (q.xy + q.zw));
        let distance_iou = result - dot(apart, apart) / (dot(hull, hull) + 1e-7);
        if KIND == 3u {
            let size_p = p.zw - p.xy;
            let size_q = q.zw - q.xy;
            let turn = atan(size_p.x / size_p.y) - atan(size_q.x / size_q.y);
            let v = 0.40528473456935109 * turn * turn;
            result = distance_iou - v * v / (1.0 - result + v + 1e-7);
        } else {
            result = distance_iou;
        }
    }
    y[i] = Elem(result);
}
