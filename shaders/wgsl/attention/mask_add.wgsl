// An addend to the scaled score. -inf hides the key; the most negative numbers, which models use in its place, are
// clamped so that the change to base 2 does not overflow.
@group(0) @binding(5) var<storage, read> mask: array<MaskElem>;

fn masked(score: f32, start: u32, query: u32, key: u32) -> f32 {
    let addend = f32(mask[start + query * params.mask_query + key * params.mask_key]);
    let hides = bitcast<u32>(addend) == 0xff800000u;
    return select(score + max(addend, -2.0e38) * LOG2_E, HIDDEN, hides);
}
