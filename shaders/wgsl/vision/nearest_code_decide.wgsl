// Index of the nearest code of each row, a row a workgroup: squared differences to the codes of those tiles that may have it,
// by their bounds. WORKGROUP is a power of two of at most 256.

struct Params {
    first_group: u32,
    groups: u32,
    // The row of the first group.
    first_row: u32,
    codes: u32,
    // Elements of a row and of a code.
    channels: u32,
    tiles: u32,
    // Codes of a tile.
    tile_codes: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bounds: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<i32>;

override WORKGROUP = 64u;

const FARTHEST = 3.40282347e38;

// The least of the most scores, and the sum of the row's squares.
var<workgroup> lanes_most: array<vec2<f32>, 256>;
var<workgroup> lanes_nearest: array<f32, 256>;
var<workgroup> lanes_found: array<u32, 256>;
var<workgroup> listed: atomic<u32>;
var<workgroup> list: array<u32, 256>;

fn distance_of(row: u32, code: u32) -> f32 {
    var sum = 0.0;
    for (var c = 0u; c < params.channels; c += WIDTH) {
        let difference = x_load(row + c) - code_load(code + c);
        sum += dot(difference, difference);
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, counts);
    if index >= params.groups {
        return;
    }
    let row = (params.first_row + index) * params.channels;
    let first_bound = index * params.tiles;

    var most = vec2<f32>(FARTHEST, 0.0);
    for (var tile = lane; tile < params.tiles; tile += WORKGROUP) {
        most.x = min(most.x, bounds[first_bound + tile].y);
    }
    for (var c = lane * WIDTH; c < params.channels; c += WORKGROUP * WIDTH) {
        let x = x_load(row + c);
        most.y += dot(x, x);
    }
    lanes_most[lane] = most;
    if lane == 0u {
        atomicStore(&listed, 0u);
    }
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let mine = lanes_most[lane];
            let other = lanes_most[lane + half];
            lanes_most[lane] = vec2<f32>(min(mine.x, other.x), mine.y + other.y);
        }
        workgroupBarrier();
    }
    let limit = lanes_most[0].x + 3.0 * slack(params.channels) * lanes_most[0].y;

    var nearest = FARTHEST;
    // Behind every code, so that it loses each tie.
    var found = params.codes;
    for (var base = 0u; base < params.tiles; base += WORKGROUP) {
        let tile = base + lane;
        // What is not a number is looked at.
        if tile < params.tiles && !(bounds[first_bound + tile].x > limit) {
            list[atomicAdd(&listed, 1u)] = tile;
        }
        workgroupBarrier();
        let count = atomicLoad(&listed);
        for (var i = 0u; i < count; i++) {
            let first = list[i] * params.tile_codes;
            let last = min(first + params.tile_codes, params.codes);
            for (var code = first + lane; code < last; code += WORKGROUP) {
                let far = distance_of(row, code * params.channels);
                if far < nearest || (far == nearest && code < found) {
                    nearest = far;
                    found = code;
                }
            }
        }
        workgroupBarrier();
        if lane == 0u {
            atomicStore(&listed, 0u);
        }
        workgroupBarrier();
    }

    lanes_nearest[lane] = nearest;
    lanes_found[lane] = found;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let far = lanes_nearest[lane + half];
            let other = lanes_found[lane + half];
            if far < lanes_nearest[lane] || (far == lanes_nearest[lane] && other < lanes_found[lane]) {
                lanes_nearest[lane] = far;
                lanes_found[lane] = other;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        // Where no distance is a number, the first code.
        let code = lanes_found[0];
        y[params.first_row + index] = i32(select(code, 0u, code >= params.codes));
    }
}
