// A workgroup is one subgroup: lane l holds pixels l, l + LANES ... and the others get them by shuffles whose index is
// constant once inlined.

const SHARE = LANES;

fn pixel_quad(quads: ptr<function, array<vec4<f32>, 8>>, i: u32) -> vec4<f32> {
    return subgroupShuffle((*quads)[i / LANES], i % LANES);
}
