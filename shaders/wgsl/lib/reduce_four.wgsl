// The reductions of reduce_workgroup.wgsl for each component by itself; those that loads do not have stay as they are.

fn reduce_sum_four(value: vec4<f32>, lane: u32) -> vec4<f32> {
    let x = reduce_sum(value.x, lane);
    if WIDTH == 1u {
        return vec4<f32>(x, value.yzw);
    }
    return vec4<f32>(x, reduce_sum(value.y, lane), reduce_sum(value.z, lane), reduce_sum(value.w, lane));
}

fn reduce_max_four(value: vec4<f32>, lane: u32) -> vec4<f32> {
    let x = reduce_max(value.x, lane);
    if WIDTH == 1u {
        return vec4<f32>(x, value.yzw);
    }
    return vec4<f32>(x, reduce_max(value.y, lane), reduce_max(value.z, lane), reduce_max(value.w, lane));
}
