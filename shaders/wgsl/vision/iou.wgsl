// Intersection over union of two boxes of corners.
fn box_area(b: vec4<f32>) -> f32 { return (b.z - b.x) * (b.w - b.y); }

fn intersection(a: vec4<f32>, b: vec4<f32>) -> f32 {
    let size = max(min(a.zw, b.zw) - max(a.xy, b.xy), vec2<f32>(0.0));
    return size.x * size.y;
}

fn iou(a: vec4<f32>, b: vec4<f32>) -> f32 {
    let inter = intersection(a, b);
    return inter / (box_area(a) + box_area(b) - inter);
}
