// Sine and cosine of radians up to about 10,000 within 1e-6, which WGSL's own do not promise: the multiple of a quarter
// turn is taken off in three parts (Cody and Waite), the rest is a polynomial as in Cephes' sinf and cosf.
fn sin_cos(x: f32) -> vec2<f32> {
    let quarters = round(x * 0.63661977236758134);
    let r = ((x - quarters * 1.5703125) - quarters * 4.837512969970703125e-4) - quarters * 7.54978995489188216e-8;
    let z = r * r;
    let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
    let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
    let quadrant = i32(quarters) & 3;
    let swapped = select(vec2<f32>(s, c), vec2<f32>(c, s), (quadrant & 1) == 1);
    let sine = select(swapped.x, -swapped.x, quadrant >= 2);
    let cosine = select(swapped.y, -swapped.y, quadrant == 1 || quadrant == 2);
    return vec2<f32>(sine, cosine);
}
