// Where there are no subgroups of one size: each lane loads all pixels of the tile.

const SHARE = 1u;

fn pixel_quad(quads: ptr<function, array<vec4<f32>, 8>>, i: u32) -> vec4<f32> {
    return (*quads)[i];
}
