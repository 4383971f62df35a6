//! The graph of a sampler's step.

use std::collections::BTreeSet;

use kiln_graph::ops::{Binary, Unary};
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor, Value};

use crate::unet::UNet;
use crate::{Error, Taps};

/// Path of the nodes around the UNet, which stay f32 where the rest is stored in f16: they are the sum of all steps.
const AROUND: &str = "sampler";

/// What a step's graph has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Pictures.
    pub batch: usize,
    /// Height and width of the latents.
    pub size: [usize; 2],
    /// Channels of the latents.
    pub channels: usize,
    /// Tokens of a prompt.
    pub tokens: usize,
    /// Whether every picture has a negative prompt too.
    pub guided: bool,
    /// Whether guided outputs get back the spread of those of the prompt.
    pub rescaled: bool,
    /// Whether the UNet sees more channels than the latents'.
    pub conditioned: bool,
    /// Whether a mask keeps a part of the picture.
    pub masked: bool,
    /// Rows, those that live on, and products of the schedule's matrices; whether there is noise among the rows.
    pub rows: usize,
    pub kept: usize,
    pub products: usize,
    pub noise: bool,
}

impl Shape {
    /// Numbers of a tensor of latents.
    pub fn length(&self) -> usize {
        self.batch * self.size[0] * self.size[1] * self.channels
    }

    /// The latents among the rows, `[batch, height, width, channels]`.
    pub fn latents(&self, rows: &Tensor) -> Result<Tensor, Error> {
        let Shape { batch, size: [height, width], channels, .. } = *self;
        let mut values = rows.to_f32().into_owned();
        values.truncate(self.length());
        super::tensor([batch, height, width, channels], values)
    }

    /// Prompts, the negative ones included.
    pub fn prompts(&self) -> usize {
        if self.guided { 2 * self.batch } else { self.batch }
    }
}

/// A step. States: `rows` `[kept, length]`, whose first row is the latents; [`UNet::prompt_shapes`]; with a condition
/// `condition` `[batch, height, width, channels]`; with a mask `mask`, `clean` and `first_noise` `[1, length]`. Inputs:
/// `time` `[1, width]`, `input_scale` `[]`, `factors` and `limits` of [`super::matrices::Matrices::step`]; `guidance_scale` and
/// `guidance_rescale` `[]`, `noise` `[1, length]` and, with a mask, `signal` and `spread` `[]`. No outputs.
pub(super) fn graph(unet: &UNet, shape: &Shape) -> Result<(Graph, BTreeSet<String>), Error> {
    let mut b = Builder::new();
    let Shape { batch, size: [height, width], channels, .. } = *shape;
    let (length, f32) = (shape.length(), DType::F32);
    let rows = b.state("rows", [shape.kept, length], f32)?;
    let prompt = unet
        .prompt_shapes(shape.prompts(), shape.tokens)
        .into_iter()
        .map(|(name, shape)| b.state(name, shape, f32))
        .collect::<Result<Vec<_>, _>>()?;
    let time = b.input("time", [1, unet.time_width()], f32)?;
    let input_scale = b.input("input_scale", [], f32)?;
    let condition = match unet.config().in_channels.saturating_sub(channels) {
        0 => None,
        more => Some(b.state("condition", [batch, height, width, more], f32)?),
    };
    let sample = b.scope(AROUND, |b| {
        let latents = b.slice(rows, 0, 0, 1)?;
        let mut sample = b.reshape(latents, [batch, height, width, channels])?;
        sample = b.mul(sample, input_scale)?;
        if let Some(condition) = condition {
            sample = b.concat(&[sample, condition], 3)?;
        }
        if shape.guided { b.concat(&[sample, sample], 0) } else { Ok(sample) }
    })?;
    let output = unet.denoise(&mut b, sample, time, &prompt, &Taps::none())?;
    b.scope(AROUND, |b| {
        let output = if shape.guided { guide(b, output, batch, shape.rescaled)? } else { output };
        let output = b.reshape(output, [1, length])?;
        let mut parts = vec![rows, output];
        if shape.noise {
            parts.push(b.input("noise", [1, length], f32)?);
        }
        let mut all = b.concat(&parts, 0)?;
        let factors = b.input("factors", [shape.products, shape.rows, shape.rows], f32)?;
        let limits = b.input("limits", [shape.products, shape.rows, 1], f32)?;
        for i in 0..shape.products {
            let of = |b: &mut Builder, list: Value, columns: usize| {
                let one = b.slice(list, 0, i, i + 1)?;
                b.reshape(one, [shape.rows, columns])
            };
            let (factors, limit) = (of(b, factors, shape.rows)?, of(b, limits, 1)?);
            all = b.matmul(factors, all)?;
            let negative = b.unary(Unary::Affine { scale: -1.0, offset: 0.0 }, limit)?;
            all = b.binary(Binary::Min, all, limit)?;
            all = b.binary(Binary::Max, all, negative)?;
        }
        let mut next = b.slice(all, 0, 0, shape.kept)?;
        if shape.masked {
            next = keep_masked(b, next, shape)?;
        }
        b.update(rows, next)
    })?;
    let graph = b.finish();
    let keep_f32 = graph.nodes().iter().map(|node| node.path.clone()).filter(|path| path == AROUND).collect();
    Ok((graph, keep_f32))
}

/// Classifier-free guidance (Ho and Salimans 2022, <https://arxiv.org/abs/2207.12598>) of the outputs for negative prompts and
/// prompts; `rescaled` as in Lin et al. 2023, <https://arxiv.org/abs/2305.08891>, section 3.4.
fn guide(b: &mut Builder, both: Value, batch: usize, rescaled: bool) -> Result<Value, GraphError> {
    let scale = b.input("guidance_scale", [], DType::F32)?;
    let negative = b.slice(both, 0, 0, batch)?;
    let positive = b.slice(both, 0, batch, 2 * batch)?;
    let towards = b.sub(positive, negative)?;
    let towards = b.mul(towards, scale)?;
    let guided = b.add(negative, towards)?;
    if !rescaled {
        return Ok(guided);
    }
    let share = b.input("guidance_rescale", [], DType::F32)?;
    let (wanted, has) = (variance(b, positive)?, variance(b, guided)?);
    let ratio = b.div(wanted, has)?;
    let ratio = b.unary(Unary::Sqrt, ratio)?;
    // share * ratio + (1 - share), as 1 + share * (ratio - 1).
    let more = b.unary(Unary::Affine { scale: 1.0, offset: -1.0 }, ratio)?;
    let more = b.mul(more, share)?;
    let factor = b.unary(Unary::Affine { scale: 1.0, offset: 1.0 }, more)?;
    b.mul(guided, factor)
}

/// Of each of a batch by itself: `[batch, 1, 1, 1]`.
fn variance(b: &mut Builder, x: Value) -> Result<Value, GraphError> {
    let mean = b.mean(x, [1, 2, 3], true)?;
    let off = b.sub(x, mean)?;
    let squares = b.mul(off, off)?;
    b.mean(squares, [1, 2, 3], true)
}

/// The rows with the latents outside the mask as they were given, noised as far as the next step begins.
fn keep_masked(b: &mut Builder, rows: Value, shape: &Shape) -> Result<Value, GraphError> {
    let row = [1, shape.length()];
    let mask = b.state("mask", row, DType::F32)?;
    let clean = b.state("clean", row, DType::F32)?;
    let noise = b.state("first_noise", row, DType::F32)?;
    let signal = b.input("signal", [], DType::F32)?;
    let spread = b.input("spread", [], DType::F32)?;
    let (clean, noise) = (b.mul(clean, signal)?, b.mul(noise, spread)?);
    let known = b.add(clean, noise)?;
    let latents = b.slice(rows, 0, 0, 1)?;
    let changed = b.sub(latents, known)?;
    let changed = b.mul(changed, mask)?;
    let latents = b.add(known, changed)?;
    if shape.kept == 1 {
        return Ok(latents);
    }
    let rest = b.slice(rows, 0, 1, shape.kept)?;
    b.concat(&[latents, rest], 0)
}
