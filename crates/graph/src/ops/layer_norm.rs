//! Layer normalisation (Ba, Kiros and Hinton 2016) and its variant without a mean (Zhang and Sennrich 2019).

use kiln_shaders as shaders;

use crate::ops::batch_norm::affine_steps;
use crate::ops::rows::{Rows, chain, rows_of};
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value,
    params,
};

params! {
    struct NormParams { rows: u32, len: u32, eps: f32 }
}

/// Normalises over the last axes, as PyTorch's `layer_norm` and `rms_norm`: inputs `x`, then `weight` and `bias` where
/// they are said to be, of the shape of those axes.
///
/// `y = (x - mean) / sqrt(variance + eps) * weight + bias`, with the biased variance; without `centred`,
/// `y = x / sqrt(mean(x^2) + eps) * weight + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Number of axes normalised together, from the last.
    pub axes: usize,
    /// Whether the mean is taken off; RMS norm leaves it.
    pub centred: bool,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// Summand under the root.
    pub eps: f32,
}

impl LayerNorm {
    /// Elements normalised together.
    fn len(&self, x: &[usize]) -> usize {
        x[x.len() - self.axes..].iter().product()
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new("layer_norm", inputs, reason);
        let count = 1 + usize::from(self.weight) + usize::from(self.bias);
        let [x, affine @ ..] = inputs else { return Err(wrong("wants an input".into())) };
        if inputs.len() != count {
            return Err(wrong(format!("wants {count} inputs")));
        }
        if !x.dtype.is_float() || affine.iter().any(|desc| desc.dtype != x.dtype) {
            return Err(wrong("wants inputs of one floating-point type".into()));
        }
        if self.axes == 0 || self.axes > x.rank() {
            return Err(wrong(format!("normalises over {} of {} axes", self.axes, x.rank())));
        }
        let tail = &x.shape[x.rank() - self.axes..];
        if affine.iter().any(|desc| desc.shape != tail) {
            return Err(wrong(format!("weight and bias should have the shape {tail:?}")));
        }
        if !self.eps.is_finite() || self.eps < 0.0 {
            return Err(wrong(format!("eps is {}", self.eps)));
        }
        Ok(vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let len = self.len(x.shape()).max(1);
        let weight = self.weight.then(|| inputs[1].to_f64());
        let bias = self.bias.then(|| inputs[1 + usize::from(self.weight)].to_f64());
        let mut values = x.to_f64();
        for row in values.chunks_mut(len) {
            let mean = if self.centred { row.iter().sum::<f64>() / len as f64 } else { 0.0 };
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / len as f64;
            let deviation = (variance + f64::from(self.eps)).sqrt();
            for (i, v) in row.iter_mut().enumerate() {
                let scale = weight.as_ref().map_or(1.0, |weight| weight[i]);
                let offset = bias.as_ref().map_or(0.0, |bias| bias[i]);
                *v = (*v - mean) / deviation * scale + offset;
            }
        }
        Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let rank = io.inputs[0].rank();
        Independence::except(io, &(rank - self.axes..rank).collect::<Vec<_>>())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let len = self.len(&x.shape);
        let chain = chain(affine_steps(self.weight, self.bias), io.epilogue);
        let rows = Rows {
            rows: rows_of(io, len),
            len,
            lane: &[shaders::NORM_ROWS_FACTOR, shaders::NORM_ROWS_LANE],
            workgroup: &[shaders::NORM_ROWS_FACTOR, shaders::NORM_ROWS_WORKGROUP],
            overrides: &[("CENTRED", u32::from(self.centred)), ("LENGTH", 0)],
            params: &|rows| NormParams { rows, len: len as u32, eps: self.eps, ..Default::default() }.into(),
        };
        Ok(rows.launches(&chain, x.dtype, tier))
    }

    fn flops(&self, io: &Io) -> u64 {
        8 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }

    fn fuses_epilogue(&self) -> bool {
        // The epilogue's columns count along the last axis, the kernel's along all that are normalised.
        self.axes == 1
    }
}

impl Builder {
    fn normalise_last(
        &mut self,
        centred: bool,
        x: Value,
        axes: usize,
        weight: Option<Value>,
        bias: Option<Value>,
        eps: f32,
    ) -> Result<Value, GraphError> {
        let op = LayerNorm { axes, centred, weight: weight.is_some(), bias: bias.is_some(), eps };
        let inputs: Vec<Value> = [Some(x), weight, bias].into_iter().flatten().collect();
        self.op(op, &inputs)
    }

    /// Layer normalisation over as many of the last axes as `weight` or `bias` has, or over the last one.
    pub fn layer_norm(
        &mut self,
        x: Value,
        weight: Option<Value>,
        bias: Option<Value>,
        eps: f32,
    ) -> Result<Value, GraphError> {
        let axes = weight.or(bias).map_or(1, |affine| self.shape(affine).len());
        self.normalise_last(true, x, axes, weight, bias, eps)
    }

    /// Layer normalisation over the last `axes` axes.
    pub fn layer_norm_over(
        &mut self,
        x: Value,
        axes: usize,
        weight: Option<Value>,
        bias: Option<Value>,
        eps: f32,
    ) -> Result<Value, GraphError> {
        self.normalise_last(true, x, axes, weight, bias, eps)
    }

    /// Root-mean-square normalisation over as many of the last axes as `weight` has, or over the last one.
    pub fn rms_norm(&mut self, x: Value, weight: Option<Value>, eps: f32) -> Result<Value, GraphError> {
        let axes = weight.map_or(1, |weight| self.shape(weight).len());
        self.normalise_last(false, x, axes, weight, None, eps)
    }
}

/// Cases: every combination of mean, weight and bias, lengths around the workgroups' sizes, rows far from zero.
pub fn cases() -> Vec<Case> {
    use crate::ops::{Binary, Unary};
    use crate::{Epilogue, Spread, Step};
    let op = |axes, centred, weight, bias| LayerNorm { axes, centred, weight, bias, eps: 1e-5 };
    let x = || Fill::uniform(-2.0, 3.0);
    let w = || Fill::uniform(0.5, 1.5);
    let mut cases = Vec::new();
    for len in [1, 2, 3, 7, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 768] {
        let inputs = [x().shape([2, 5, len]), w().shape([len]), x().shape([len])];
        cases.push(Case::new(op(1, true, true, true), inputs));
    }
    for (len, rows) in [(4097, 1), (1024, 3), (320, 70)] {
        let inputs = [x().shape([rows, len]), w().shape([len]), x().shape([len])];
        cases.push(Case::new(op(1, true, true, true), inputs));
    }
    for len in [16, 33] {
        let shape = [3, 4, len];
        cases.push(Case::new(op(1, true, false, false), [x().shape(shape)]));
        cases.push(Case::new(op(1, true, true, false), [x().shape(shape), w().shape([len])]));
        cases.push(Case::new(op(1, true, false, true), [x().shape(shape), w().shape([len])]));
        cases.push(Case::new(op(1, false, false, false), [x().shape(shape)]));
        cases.push(Case::new(op(1, false, true, false), [x().shape(shape), w().shape([len])]));
    }
    cases.push(Case::new(
        op(2, true, true, true),
        [x().shape([3, 4, 6]), w().shape([4, 6]), x().shape([4, 6])],
    ));
    cases.push(Case::new(op(2, true, false, false), [x().shape([3, 3, 5])]));
    // Longer than one invocation's loops may be.
    cases.push(Case::new(op(1, true, false, false), [x().shape([1, 65537])]));
    cases.push(Case::new(op(1, false, true, false), [x().shape([1500, 2]), w().shape([2])]));
    cases.push(Case::new(op(1, true, true, true), [x().shape([0, 8]), w().shape([8]), x().shape([8])]));
    // Rows far from zero, whose mean f32 cannot hold; f16 could not hold the rows.
    let far = Fill::uniform(9999.0, 10001.0).shape([4, 768]);
    cases.push(Case::new(op(1, true, false, false), [far]).f32_only());
    let constant = Fill::given(DType::F32, [3.7]).shape([2, 16]);
    cases.push(Case::new(op(1, true, true, true), [constant, w().shape([16]), x().shape([16])]));
    let epilogue = Epilogue {
        steps: vec![
            Step::Unary(Unary::Silu),
            Step::Binary { function: Binary::Add, operand: 0, spread: Spread::Full, swapped: false },
        ],
    };
    for len in [36, 37] {
        let inputs = [x().shape([9, len]), w().shape([len]), x().shape([len]), x().shape([9, len])];
        cases.push(Case::new(op(1, true, true, true), inputs).epilogue(epilogue.clone()));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: LayerNorm = LayerNorm { axes: 1, centred: true, weight: false, bias: false, eps: 0.0 };

    #[test]
    fn shapes_must_match() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        let affine = LayerNorm { weight: true, bias: true, ..PLAIN };
        assert!(affine.infer(&[desc(&[2, 8]), desc(&[8]), desc(&[8])]).is_ok());
        assert!(affine.infer(&[desc(&[2, 8]), desc(&[8]), desc(&[7])]).is_err());
        assert!(affine.infer(&[desc(&[2, 8]), desc(&[8])]).is_err());
        assert!(PLAIN.infer(&[desc(&[])]).is_err());
        assert!(LayerNorm { axes: 3, ..PLAIN }.infer(&[desc(&[2, 8])]).is_err());
        assert!(PLAIN.infer(&[TensorDesc::new([2], DType::I32)]).is_err());
    }

    #[test]
    fn rows_have_mean_zero_and_variance_one() {
        let x = Tensor::f32([2, 2], vec![1., 3., 10., 30.]).unwrap();
        let y = PLAIN.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[-1., 1., -1., 1.][..]));
        let rms = LayerNorm { centred: false, ..PLAIN };
        let x = Tensor::f32([1, 2], vec![3., 3.]).unwrap();
        assert_eq!(rms.reference(&[&x]).unwrap()[0].as_f32(), Some(&[1., 1.][..]));
    }
}
