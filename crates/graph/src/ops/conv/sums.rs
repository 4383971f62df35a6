//! The definition's sums, shared by ordinary and transposed convolutions.

use rayon::prelude::*;

use super::Plan;
use crate::{OpError, Tensor, TensorDesc};

/// Pixels whose sums are kept at a time, so that the weights pass through the cache once for all of them.
const PIXELS: usize = 16;

/// `y[b, oy, ox, co] = sum over (ky, kx, ci) of x[b, row(oy, ky), column(ox, kx), ci] * weight[co, ci, ky, kx]`, where
/// `row` and `column` say which input position meets a kernel position, if any. In f64.
pub(crate) fn reference(
    plan: &Plan,
    x: &Tensor,
    weight: &Tensor,
    out: TensorDesc,
    row: impl Fn(usize, usize) -> Option<usize> + Sync,
    column: impl Fn(usize, usize) -> Option<usize> + Sync,
) -> Result<Vec<Tensor>, OpError> {
    let ([h, w], [oh, ow], [kh, kw]) = (plan.input, plan.output, plan.kernel);
    let (cin, cout, cin_group, cout_group) = (plan.cin, plan.cout, plan.cin_group(), plan.cout_group());
    let weight = by_tap(plan, &weight.to_f64());
    let x = x.to_f64();
    let mut y = vec![0.0; out.len()];
    y.par_chunks_mut((ow * cout).max(1)).enumerate().for_each(|(line, y)| {
        let (image, oy) = (line / oh, line % oh);
        for (block, y) in y.chunks_mut(PIXELS * cout).enumerate() {
            for (tap, weight) in weight.chunks_exact((cin_group * cout_group).max(1)).enumerate() {
                let (group, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
                let Some(iy) = row(oy, ky) else { continue };
                // Input and output pixels that this tap joins.
                let pixels: Vec<(usize, usize)> = (0..y.len() / cout)
                    .filter_map(|i| {
                        let ix = column(block * PIXELS + i, kx)?;
                        let from = ((image * h + iy) * w + ix) * cin + group * cin_group;
                        Some((from, i * cout + group * cout_group))
                    })
                    .collect();
                let mut ci = 0;
                for weight in weight.chunks(4 * cout_group) {
                    let rows = weight.len() / cout_group;
                    for &(from, to) in &pixels {
                        accumulate(&mut y[to..to + cout_group], &x[from + ci..from + ci + rows], weight);
                    }
                    ci += rows;
                }
            }
        }
    });
    Ok(vec![Tensor::from_f64(out.shape, out.dtype, &y)?])
}

/// `y += x weight` for a row `x` and a matrix of as many rows.
fn accumulate(y: &mut [f64], x: &[f64], weight: &[f64]) {
    let n = y.len();
    if let [a, b, c, d] = *x {
        let (w0, rest) = weight.split_at(n);
        let (w1, rest) = rest.split_at(n);
        let (w2, w3) = rest.split_at(n);
        for ((((y, w0), w1), w2), w3) in y.iter_mut().zip(w0).zip(w1).zip(w2).zip(w3) {
            *y += a * w0 + b * w1 + c * w2 + d * w3;
        }
    } else {
        for (x, weight) in x.iter().zip(weight.chunks_exact(n)) {
            y.iter_mut().zip(weight).for_each(|(y, w)| *y += x * w);
        }
    }
}

/// The weight as [group][kernel row][kernel column][input channel][output channel].
fn by_tap(plan: &Plan, weight: &[f64]) -> Vec<f64> {
    let [group_stride, out_stride, in_stride, row_stride, column_stride] = plan.weight_strides();
    let mut packed = Vec::with_capacity(weight.len());
    for group in 0..plan.groups {
        for ky in 0..plan.kernel[0] {
            for kx in 0..plan.kernel[1] {
                for ci in 0..plan.cin_group() {
                    let at = group * group_stride + ci * in_stride + ky * row_stride + kx * column_stride;
                    packed.extend((0..plan.cout_group()).map(|co| weight[at + co * out_stride]));
                }
            }
        }
    }
    packed
}
