//! The definition.

use rayon::prelude::*;

use super::{Mask, ScaledDotProductAttention, Shapes};
use crate::{DType, Op, OpError, Tensor, TensorDesc};

/// Addends below this are rounded into the score in f32, whose steps swallow it, as they do in PyTorch and in the
/// kernels: a row of nothing but -1e9 is then the mean of the values.
const SWALLOWS: f64 = -1e6;

/// A scaled score with its mask; nothing where the mask hides the key.
fn masked(score: f64, mask: &Option<(Mask, Vec<f64>)>, at: [usize; 4]) -> Option<f64> {
    let Some((mask, values)) = mask else { return Some(score) };
    let index: usize = at.iter().zip(mask.strides).map(|(i, stride)| i * stride).sum();
    let value = values.get(index).copied().unwrap_or(0.0);
    match mask.dtype {
        DType::Bool => (value != 0.0).then_some(score),
        _ if value == f64::NEG_INFINITY => None,
        _ if value < SWALLOWS => Some(f64::from(score as f32 + value as f32)),
        _ => Some(score + value),
    }
}

pub(super) fn attention(op: &ScaledDotProductAttention, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let descs: Vec<TensorDesc> = inputs.iter().map(|tensor| tensor.desc()).collect();
    let s = Shapes::of(op, &descs)?;
    let out = op.infer(&descs)?.swap_remove(0);
    let own: Vec<Vec<f64>> = inputs[..op.layout.inputs()].iter().map(|tensor| tensor.to_f64()).collect();
    let mask = s.mask.map(|mask| (mask, inputs[mask.input].to_f64()));
    let scalar = |input: Option<usize>| {
        input.and_then(|i| inputs[i].as_u32()).and_then(|values| values.first()).map(|&v| v as usize)
    };
    let keys = scalar(s.kv_len).map_or(s.keys, |len| len.min(s.keys));
    let position = scalar(s.position).unwrap_or(0);
    let scale = op.scale.map_or_else(|| 1.0 / (s.head_dim as f64).sqrt(), f64::from);
    let (q, k, v) = (&own[s.q.input], &own[s.k.input], &own[s.v.input]);
    let mut y = vec![0.0; out.len()];
    y.par_chunks_mut(s.value_dim.max(1)).enumerate().for_each(|(line, y)| {
        let (b, i, h) = (line / s.heads / s.queries, line / s.heads % s.queries, line % s.heads);
        let kv_head = h / (s.heads / s.kv_heads);
        let visible = if op.causal { keys.min(i.saturating_add(position).saturating_add(1)) } else { keys };
        let query = &q[s.q.offset + (b * s.queries + i) * s.q.row_stride + h * s.head_dim..][..s.head_dim];
        let scores: Vec<Option<f64>> = (0..visible)
            .map(|j| {
                let start = s.k.offset + (b * s.keys + j) * s.k.row_stride + kv_head * s.head_dim;
                let score: f64 = query.iter().zip(&k[start..][..s.head_dim]).map(|(q, k)| q * k).sum();
                masked(score * scale, &mask, [b, h, i, j])
            })
            .collect();
        let largest = scores.iter().flatten().fold(f64::NEG_INFINITY, |m, &score| m.max(score));
        let mut sum = 0.0;
        for (j, score) in scores.iter().enumerate() {
            let Some(score) = score else { continue };
            let p = (score - largest).exp();
            sum += p;
            let start = s.v.offset + (b * s.keys + j) * s.v.row_stride + kv_head * s.value_dim;
            y.iter_mut().zip(&v[start..][..s.value_dim]).for_each(|(y, v)| *y += p * v);
        }
        if sum > 0.0 {
            y.iter_mut().for_each(|y| *y /= sum);
        }
    });
    Ok(vec![Tensor::from_f64(out.shape, out.dtype, &y)?])
}
