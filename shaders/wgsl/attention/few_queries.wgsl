// Attention of few queries, such as a decoder's next token: a query of a head a workgroup, whose invocations share its keys
// and values out among them (Dao et al. 2023, "Flash-Decoding for long-context inference", within a workgroup).
//
// Keys come in tiles of LANES, one an invocation, with an online softmax over the tiles. Then an invocation adds up one quad
// of the values, or every WIDTH-th, of each PARTS-th key of the tile; the parts are added at the end.

const WIDTH = min(VALUE_QUADS, LANES);
const PARTS = LANES / WIDTH;
const COLUMNS = (VALUE_QUADS + WIDTH - 1u) / WIDTH;

var<workgroup> scores: array<f32, LANES>;
var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = group_index(group, counts);
    if place >= params.groups {
        return;
    }
    let query = place % params.tiles;
    let head = head_at(place / params.tiles);
    let end = key_end(query);
    let own = head.q + query * params.q_row;
    let column = lane % WIDTH;
    let part = lane / WIDTH;

    var sums: array<vec4<f32>, COLUMNS>;
    var largest = HIDDEN;
    var weight = 0.0;
    for (var first = 0u; first < end; first += LANES) {
        let key = first + lane;
        let visible = key < end;
        var score = HIDDEN;
        if visible {
            var products = vec4<f32>(0.0);
            for (var d = 0u; d < HEAD_QUADS; d++) {
                products += q_load(own, d) * k_load(head.k + key * params.k_row, d);
            }
            let product = products.x + products.y + products.z + products.w;
            score = masked(product * params.scale, head.mask, query, key);
        }
        // What the tile before left is read.
        workgroupBarrier();
        scores[lane] = score;
        workgroupBarrier();
        var next = largest;
        for (var i = 0u; i < LANES; i++) {
            next = max(next, scores[i]);
        }
        let keep = exp2(largest - next);
        largest = next;
        workgroupBarrier();
        scores[lane] = select(0.0, exp2(score - next), visible);
        workgroupBarrier();
        weight *= keep;
        for (var i = 0u; i < LANES; i++) {
            weight += scores[i];
        }
        let keys = min(LANES, end - first);
        for (var c = 0u; c < COLUMNS; c++) {
            let quad = column + c * WIDTH;
            var sum = sums[c] * keep;
            if part < PARTS && quad < VALUE_QUADS {
                for (var i = part; i < keys; i += PARTS) {
                    sum += scores[i] * v_load(head.v + (first + i) * params.v_row, quad);
                }
            }
            sums[c] = sum;
        }
    }
    let share = select(0.0, 1.0 / weight, largest > HIDDEN);
    let row = head.y + query * params.heads * params.v_head;
    for (var c = 0u; c < COLUMNS; c++) {
        workgroupBarrier();
        partial[lane] = sums[c];
        workgroupBarrier();
        let quad = column + c * WIDTH;
        if part == 0u && quad < VALUE_QUADS {
            var sum = vec4<f32>(0.0);
            for (var i = 0u; i < PARTS; i++) {
                sum += partial[column + i * WIDTH];
            }
            y_store(row, quad, sum * share);
        }
    }
}
