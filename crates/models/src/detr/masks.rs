//! DETR's head for masks (Carion et al. 2020, section 4.3): where each query looks in the encoder's result, made finer by
//! what earlier stages of the backbone saw.

use kiln_graph::ops::{Conv2d, Interpolate, InterpolateMode, Unary};
use kiln_graph::{Builder, GraphError, Value};

use super::names::{MaskPart, Names};
use crate::layers::{attention_scores, linear, masked};

/// Added to the variances of group norms.
const EPS: f32 = 1e-5;

/// Bytes of the largest tensor of some queries, by which their number at once is chosen.
const AT_ONCE: usize = 64 << 20;

/// What the head reads.
pub(super) struct Seen {
    /// The decoder's result, `[batch, queries, d_model]`.
    pub queries: Value,
    /// The encoder's result, `[batch, rows * columns, d_model]`.
    pub memory: Value,
    /// What of it is picture, `[batch, 1, 1, rows * columns]`.
    pub mask: Option<Value>,
    /// The last stage's features at the transformer's width, `[batch, rows, columns, d_model]`.
    pub projected: Value,
    /// The features of the earlier three stages, finest first.
    pub stages: [Value; 3],
}

/// The head's sizes.
pub(super) struct MaskHead<'a> {
    pub names: &'a Names,
    pub d_model: usize,
    pub heads: usize,
    pub activation: Unary,
}

impl MaskHead<'_> {
    /// Logits of every query's mask, `[batch, queries, rows, columns]` at the size of the finest stage.
    pub fn build(&self, b: &mut Builder, seen: &Seen) -> Result<Value, GraphError> {
        let queries = b.shape(seen.queries).get(1).copied().unwrap_or(0);
        let attention = self.attention(b, seen)?;
        let finest: usize = b.shape(seen.stages[0]).iter().take(3).product();
        let each = (finest * (self.d_model / 8) * 4).max(1);
        let step = (AT_ONCE / each).clamp(1, queries.max(1));
        let mut parts = Vec::new();
        for first in (0..queries).step_by(step) {
            let some = b.slice(attention, 1, first, (first + step).min(queries))?;
            parts.push(self.convolutions(b, seen, some)?);
        }
        if let [whole] = parts[..] { Ok(whole) } else { b.concat(&parts, 1) }
    }

    /// How much each query's head looks at each place: `[batch, queries, rows * columns, heads]`; all heads of a query
    /// share 1.
    fn attention(&self, b: &mut Builder, seen: &Seen) -> Result<Value, GraphError> {
        let heads = self.heads;
        let [batch, queries, _] = *b.shape(seen.queries) else { return Ok(seen.queries) };
        let length = b.shape(seen.memory).get(1).copied().unwrap_or(0);
        let q = linear(b, self.names.masks(MaskPart::Query), seen.queries, self.d_model, true)?;
        let k = linear(b, self.names.masks(MaskPart::Key), seen.memory, self.d_model, true)?;
        let scores = attention_scores(b, q, k, heads)?;
        let scores = masked(b, scores, seen.mask)?;
        let scores = b.permute(scores, [0, 2, 1, 3])?;
        let scores = b.reshape(scores, [batch, queries, heads * length])?;
        let shares = b.softmax(scores, -1)?;
        let shares = b.reshape(shares, [batch, queries, heads, length])?;
        b.permute(shares, [0, 1, 3, 2])
    }

    /// From where some queries look, `[batch, queries, rows * columns, heads]`, to their masks.
    fn convolutions(&self, b: &mut Builder, seen: &Seen, attention: Value) -> Result<Value, GraphError> {
        let d = self.d_model;
        let [batch, rows, columns, _] = *b.shape(seen.projected) else { return Ok(attention) };
        let queries = b.shape(attention).get(1).copied().unwrap_or(0);
        let features = b.unsqueeze(seen.projected, 1)?;
        let features = b.expand(features, [batch, queries, rows, columns, d])?;
        let features = b.reshape(features, [batch * queries, rows, columns, d])?;
        let attention = b.reshape(attention, [batch * queries, rows, columns, self.heads])?;
        let x = b.concat(&[features, attention], 3)?;
        let x = self.block(b, 0, x, d + self.heads)?;
        let mut x = self.block(b, 1, x, d / 2)?;
        for (i, &stage) in seen.stages.iter().rev().enumerate() {
            let [_, rows, columns, channels] = *b.shape(stage) else { return Ok(x) };
            let width = d >> (i + 1);
            let finer = b.scope(self.names.masks(MaskPart::Adapter(i)), |b| {
                let (weight, bias) =
                    (b.weight("weight", [width, channels, 1, 1])?, b.weight("bias", [width])?);
                b.conv2d(stage, weight, Some(bias), Conv2d::default())
            })?;
            let finer = b.unsqueeze(finer, 1)?;
            let larger = b.interpolate(x, Interpolate::size(InterpolateMode::Nearest, [rows, columns]))?;
            let larger = b.reshape(larger, [batch, queries, rows, columns, width])?;
            let sum = b.add(larger, finer)?;
            let sum = b.reshape(sum, [batch * queries, rows, columns, width])?;
            x = self.block(b, i + 2, sum, width / 2)?;
        }
        let x = self.conv(b, MaskPart::Out, x, 1)?;
        let [_, rows, columns, _] = *b.shape(x) else { return Ok(x) };
        b.reshape(x, [batch, queries, rows, columns])
    }

    /// A 3x3 convolution, a group norm and an activation.
    fn block(&self, b: &mut Builder, i: usize, x: Value, channels: usize) -> Result<Value, GraphError> {
        let x = self.conv(b, MaskPart::Conv(i), x, channels)?;
        let x = b.scope(self.names.masks(MaskPart::Norm(i)), |b| {
            let (weight, bias) = (b.weight("weight", [channels])?, b.weight("bias", [channels])?);
            b.group_norm(x, channels.min(8), Some(weight), Some(bias), EPS)
        })?;
        b.unary(self.activation, x)
    }

    fn conv(&self, b: &mut Builder, part: MaskPart, x: Value, channels: usize) -> Result<Value, GraphError> {
        let inputs = b.desc(x).last();
        b.scope(self.names.masks(part), |b| {
            let weight = b.weight("weight", [channels, inputs, 3, 3])?;
            let bias = b.weight("bias", [channels])?;
            b.conv2d(x, weight, Some(bias), Conv2d::default().padding(1))
        })
    }
}
