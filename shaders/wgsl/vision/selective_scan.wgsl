// Mamba's selective scan: h = exp(delta a) h + delta b u, y = c h + d u, step after step. A channel an invocation, whose
// STATES states stay in registers.

struct Params {
    first_group: u32,
    groups: u32,
    // Batches times channels.
    lines: u32,
    channels: u32,
    len: u32,
    // Elements between neighbouring channels, and between neighbouring steps, of u, delta and y.
    channel_stride: u32,
    step_stride: u32,
    // Elements between neighbouring states, and between neighbouring steps, of b and c.
    state_stride: u32,
    state_step_stride: u32,
    // Steps of this dispatch; where they are not the first, last_state has the state before them.
    first_step: u32,
    end_step: u32,
}

override WORKGROUP = 64u;
// 1 where delta goes through softplus first.
override SOFTPLUS = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<Elem>;
@group(0) @binding(2) var<storage, read> delta: array<Elem>;
@group(0) @binding(3) var<storage, read> a: array<Elem>;
@group(0) @binding(4) var<storage, read> b: array<Elem>;
@group(0) @binding(5) var<storage, read> c: array<Elem>;
@group(0) @binding(7) var<storage, read_write> y: array<Elem>;
@group(0) @binding(8) var<storage, read_write> last_state: array<Out>;

// ln(1 + e^x), which is x where e^x would swallow the one.
fn softplus(x: f32) -> f32 {
    let e = exp(-abs(x));
    // ln(1 + e) without losing small e.
    let log1p = select(log(1.0 + e), e * (1.0 - e * (0.5 - e * 0.33333333)), e < 0.01);
    return max(x, 0.0) + log1p;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = group_index(group, counts) * WORKGROUP + lane;
    if line >= params.lines {
        return;
    }
    let batch = line / params.channels;
    let channel = line - batch * params.channels;
    let start = batch * params.channels * params.len + channel * params.channel_stride;
    let state_start = batch * STATES * params.len;
    var h: array<f32, STATES>;
    for (var n = 0u; n < STATES; n++) {
        h[n] = 0.0;
    }
    if params.first_step > 0u {
        for (var n = 0u; n < STATES; n++) {
            h[n] = f32(last_state[line * STATES + n]);
        }
    }
    let skipped = direct(channel);
    for (var step = params.first_step; step < params.end_step; step++) {
        let i = start + step * params.step_stride;
        var time = f32(delta[i]);
        if SOFTPLUS != 0u {
            time = softplus(time);
        }
        let value = f32(u[i]);
        var sum = 0.0;
        for (var n = 0u; n < STATES; n++) {
            let j = state_start + n * params.state_stride + step * params.state_step_stride;
            h[n] = exp(time * f32(a[channel * STATES + n])) * h[n] + time * f32(b[j]) * value;
            sum += f32(c[j]) * h[n];
        }
        y[i] = Elem(sum + skipped * value);
    }
    for (var n = 0u; n < STATES; n++) {
        last_state[line * STATES + n] = Out(h[n]);
    }
}
