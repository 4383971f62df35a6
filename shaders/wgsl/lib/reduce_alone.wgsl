// Reductions over a workgroup of one invocation: what reduce_workgroup.wgsl does, for devices on which barriers are slow.

override WORKGROUP = 1u;

fn reduce_sum(value: f32, lane: u32) -> f32 { return value; }
fn reduce_max(value: f32, lane: u32) -> f32 { return value; }
