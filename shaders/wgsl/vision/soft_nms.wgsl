// Soft suppression by one workgroup, whose size is a power of two of at most 256: round by round it takes the box of the
// highest score, of equals the first, and all invocations decay the scores of those that are left by their overlap with
// it. Each invocation goes through boxes of its own, so that no other one reads their current scores.

struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    // The threshold of a linear decay, or the sigma of a Gaussian one.
    decay: f32,
    min_score: f32,
    // Rounds of this dispatch; where they are not the first, the outputs and scores have what those before left.
    first: u32,
    end: u32,
}

override WORKGROUP = 64u;
// 1 for a Gaussian decay.
override GAUSSIAN = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> boxes: array<Elem4>;
@group(0) @binding(2) var<storage, read> scores: array<Elem>;
// The bits of each box's score by now, or OUT.
@group(0) @binding(3) var<storage, read_write> current: array<u32>;
@group(0) @binding(4) var<storage, read_write> taken: array<i32>;
@group(0) @binding(5) var<storage, read_write> count: array<i32>;
@group(0) @binding(7) var<storage, read_write> decayed: array<Elem>;

// A box that is taken or dropped: bits of a NaN, which no score keeps.
const OUT = 0xffffffffu;
// Above every place.
const NONE = 0xffffffffu;

var<workgroup> bests: array<f32, 256>;
var<workgroup> places: array<u32, 256>;

// A score's bits, or OUT where it is too low or NaN; that is told by its bits, for comparisons of NaN may be optimised.
fn left_bits(score: f32) -> u32 {
    let bits = bitcast<u32>(score);
    let is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return select(OUT, bits, !is_nan && score >= params.min_score);
}

// A score after its box met a taken one.
fn decay(score: f32, overlap: f32) -> f32 {
    if GAUSSIAN != 0u {
        // A NaN overlap is not above 0 either.
        if overlap > 0.0 {
            return score * exp(-(overlap * overlap) / params.decay);
        }
    } else if overlap > params.decay {
        // A division may round to more than 1.
        return score * max(1.0 - overlap, 0.0);
    }
    return score;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if group_index(group, counts) >= params.groups {
        return;
    }
    var best = 0.0;
    var at = NONE;
    for (var i = lane; i < params.len; i += WORKGROUP) {
        if params.first == 0u {
            current[i] = left_bits(f32(scores[i]));
            taken[i] = -1;
            decayed[i] = Elem(0.0);
        }
        let bits = current[i];
        if bits != OUT && (at == NONE || bitcast<f32>(bits) > best) {
            best = bitcast<f32>(bits);
            at = i;
        }
    }
    if params.first == 0u && lane == 0u {
        count[0] = 0;
    }
    storageBarrier();
    for (var n = params.first; n < params.end; n++) {
        bests[lane] = best;
        places[lane] = at;
        workgroupBarrier();
        for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
            if lane < half {
                let other = bests[lane + half];
                let place = places[lane + half];
                let mine = bests[lane];
                if place != NONE && (places[lane] == NONE || other > mine || (other == mine && place < places[lane])) {
                    bests[lane] = other;
                    places[lane] = place;
                }
            }
            workgroupBarrier();
        }
        let own = workgroupUniformLoad(&places[0]);
        if own == NONE {
            break;
        }
        if lane == 0u {
            taken[n] = i32(own);
            decayed[n] = Elem(bests[0]);
            count[0] = i32(n + 1u);
        }
        let box_own = vec4<f32>(boxes[own]);
        best = 0.0;
        at = NONE;
        for (var i = lane; i < params.len; i += WORKGROUP) {
            var bits = current[i];
            if bits == OUT {
                continue;
            }
            if i == own {
                bits = OUT;
                current[i] = bits;
            } else if compete(own, i) {
                bits = left_bits(decay(bitcast<f32>(bits), iou(box_own, vec4<f32>(boxes[i]))));
                current[i] = bits;
            }
            if bits != OUT && (at == NONE || bitcast<f32>(bits) > best) {
                best = bitcast<f32>(bits);
                at = i;
            }
        }
    }
}
