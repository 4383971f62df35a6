// Boxes as [x1, y1, x2, y2], [x, y, width, height] or [centre x, centre y, width, height].

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    // Formats: 0, 1, 2 in the order above.
    source: u32,
    wanted: u32,
    width: f32,
    height: f32,
}

override WORKGROUP = 64u;
// 0 to convert, 1 to clip, 2 for areas.
override WORK = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> boxes: array<Elem4>;

fn to_corners(b: vec4<f32>, format: u32) -> vec4<f32> {
    if format == 1u { return vec4<f32>(b.xy, b.xy + b.zw); }
    if format == 2u { return vec4<f32>(b.xy - 0.5 * b.zw, b.xy + 0.5 * b.zw); }
    return b;
}

fn from_corners(b: vec4<f32>, format: u32) -> vec4<f32> {
    if format == 1u { return vec4<f32>(b.xy, b.zw - b.xy); }
    if format == 2u { return vec4<f32>((b.xy + b.zw) / 2.0, b.zw - b.xy); }
    return b;
}
