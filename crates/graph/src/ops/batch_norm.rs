//! Batch normalisation (Ioffe and Szegedy 2015) as it is at inference, by statistics that training left.

use kiln_shaders as shaders;

use crate::ops::rows::{finish, fitting};
use crate::ops::{Binary, units};
use crate::registry::{Case, Fill};
use crate::{
    Builder, Dispatch, Epilogue, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Spread,
    Step, Tensor, TensorDesc, Tier, Value, params,
};

params! {
    struct BatchParams { len: u32, channels: u32, eps: f32 }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, as PyTorch's `batch_norm` in evaluation. Inputs: `x` of shape
/// `[..., C]`, `mean` and `variance` of shape `[C]`, then `weight` and `bias` alike where they are said to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// Summand under the root.
    pub eps: f32,
}

/// Weight and bias of channels as steps on what is normalised.
pub(super) fn affine_steps(weight: bool, bias: bool) -> Vec<Step> {
    let step = |function, operand| Step::Binary { function, operand, spread: Spread::Last, swapped: false };
    let mut steps = Vec::new();
    if weight {
        steps.push(step(Binary::Mul, 0));
    }
    if bias {
        steps.push(step(Binary::Add, usize::from(weight)));
    }
    steps
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new("batch_norm", inputs, reason);
        let count = 3 + usize::from(self.weight) + usize::from(self.bias);
        let [x, vectors @ ..] = inputs else { return Err(wrong("wants an input".into())) };
        if inputs.len() != count {
            return Err(wrong(format!("wants {count} inputs")));
        }
        let Some(&channels) = x.shape.last() else { return Err(wrong("wants channels".into())) };
        if !x.dtype.is_float() || vectors.iter().any(|desc| desc.dtype != x.dtype) {
            return Err(wrong("wants inputs of one floating-point type".into()));
        }
        if vectors.iter().any(|desc| desc.shape != [channels]) {
            return Err(wrong(format!("wants a number a channel, of which there are {channels}")));
        }
        if !self.eps.is_finite() || self.eps < 0.0 {
            return Err(wrong(format!("eps is {}", self.eps)));
        }
        Ok(vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let channels = x.desc().last();
        let (mean, variance) = (inputs[1].to_f64(), inputs[2].to_f64());
        let weight = self.weight.then(|| inputs[3].to_f64());
        let bias = self.bias.then(|| inputs[3 + usize::from(self.weight)].to_f64());
        let mut values = x.to_f64();
        for (i, v) in values.iter_mut().enumerate() {
            let c = i % channels;
            let scale = weight.as_ref().map_or(1.0, |weight| weight[c]);
            let offset = bias.as_ref().map_or(0.0, |bias| bias[c]);
            *v = (*v - mean[c]) / (variance[c] + f64::from(self.eps)).sqrt() * scale + offset;
        }
        Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        const WORKGROUP: usize = 64;
        let x = &io.inputs[0];
        let own = affine_steps(self.weight, self.bias);
        let (chain, rest) = fitting(own, 4, io.epilogue, tier);
        let vec4 = x.last().is_multiple_of(4);
        let mut parts = vec![units::elem(x.dtype), shaders::GRID, units::load(vec4), units::store(vec4)];
        parts.push(shaders::BATCH_NORM);
        parts.extend(chain.units(x, vec4));
        let kernel = Kernel::new(parts).set("WORKGROUP", WORKGROUP as u32);
        let params = BatchParams {
            len: x.len() as u32,
            channels: x.last() as u32,
            eps: self.eps,
            ..Default::default()
        };
        let groups = (x.len() / if vec4 { 4 } else { 1 }).div_ceil(WORKGROUP);
        let dispatch = Dispatch::new(kernel, params, groups as u64)
            .bind("x", Source::Input(0))
            .bind("mean", Source::Input(1))
            .bind("variance", Source::Input(2))
            .bind("y", Source::Output(0));
        let launch = Launch::one("elementwise", chain.bind(dispatch, 3));
        let first = 3 + usize::from(self.weight) + usize::from(self.bias);
        Ok(vec![finish(launch, &rest, first, io, tier)])
    }

    fn flops(&self, io: &Io) -> u64 {
        4 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// Batch normalisation of `x` (`[..., C]`) by the statistics and, where given, weight and bias of each channel.
    pub fn batch_norm(
        &mut self,
        x: Value,
        weight: Option<Value>,
        bias: Option<Value>,
        mean: Value,
        variance: Value,
        eps: f32,
    ) -> Result<Value, GraphError> {
        let op = BatchNorm { weight: weight.is_some(), bias: bias.is_some(), eps };
        let inputs: Vec<Value> =
            [Some(x), Some(mean), Some(variance), weight, bias].into_iter().flatten().collect();
        self.op(op, &inputs)
    }
}

/// Cases: every combination of weight and bias, shapes of images, sequences and vectors, an epilogue that fits and one
/// that needs more buffers than some devices bind.
pub fn cases() -> Vec<Case> {
    let x = || Fill::uniform(-2.0, 3.0);
    let positive = || Fill::uniform(0.05, 2.0);
    let op = |weight, bias| BatchNorm { weight, bias, eps: 1e-5 };
    let mut cases = Vec::new();
    for shape in [&[2, 5, 4, 6][..], &[3, 7], &[1, 9, 5], &[2, 3, 3, 64], &[1, 1], &[0, 4], &[12], &[2, 130]]
    {
        let c = shape[shape.len() - 1];
        let of = |fill: Fill| fill.shape([c]);
        cases.push(Case::new(op(true, true), [x().shape(shape), of(x()), of(positive()), of(x()), of(x())]));
    }
    for (weight, bias) in [(false, false), (true, false), (false, true)] {
        let mut inputs = vec![x().shape([3, 5, 8]), x().shape([8]), positive().shape([8])];
        inputs.extend((0..usize::from(weight) + usize::from(bias)).map(|_| x().shape([8])));
        cases.push(Case::new(op(weight, bias), inputs));
    }
    let full =
        |operand| Step::Binary { function: Binary::Add, operand, spread: Spread::Full, swapped: false };
    for operands in [1, 3] {
        let mut steps: Vec<Step> = (0..operands).map(full).collect();
        steps.push(Step::Unary(crate::ops::Unary::Relu));
        for c in [8, 5] {
            let mut inputs = vec![x().shape([2, 3, c]), x().shape([c]), positive().shape([c])];
            inputs.extend([x().shape([c]), x().shape([c])]);
            inputs.extend((0..operands).map(|_| x().shape([2, 3, c])));
            cases.push(Case::new(op(true, true), inputs).epilogue(Epilogue { steps: steps.clone() }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn every_channel_needs_its_numbers() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        let op = BatchNorm { weight: false, bias: true, eps: 1e-5 };
        assert!(op.infer(&[desc(&[2, 4]), desc(&[4]), desc(&[4]), desc(&[4])]).is_ok());
        assert!(op.infer(&[desc(&[2, 4]), desc(&[4]), desc(&[4]), desc(&[3])]).is_err());
        assert!(op.infer(&[desc(&[2, 4]), desc(&[4]), desc(&[4])]).is_err());
        assert!(op.infer(&[desc(&[]), desc(&[4]), desc(&[4]), desc(&[4])]).is_err());
    }

    #[test]
    fn channels_are_normalised_by_what_is_given() {
        let t = |values: &[f32]| Tensor::f32([values.len()], values.to_vec()).unwrap();
        let op = BatchNorm { weight: true, bias: true, eps: 0.0 };
        let inputs = [&t(&[3., 5.]), &t(&[1., 1.]), &t(&[4., 16.]), &t(&[10., 1.]), &t(&[0.5, 0.])];
        assert_eq!(op.reference(&inputs).unwrap()[0].as_f32(), Some(&[10.5, 1.][..]));
    }
}
