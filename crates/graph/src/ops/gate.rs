//! Gated linear units (Dauphin et al. 2016, Shazeer 2020): half of a layer's features scaled by a function of the other.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::rows::{finish, fitting};
use crate::ops::{Unary, units};
use crate::registry::{Case, Fill};
use crate::{
    Builder, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc,
    Tier, Value, params,
};

params! {
    struct GateParams { len: u32, half: u32, values: u32, gates: u32 }
}

/// Splits the last axis in two and multiplies one half by a function of the other: `x` of shape `[..., 2 n]` gives
/// `[..., n]`.
///
/// PyTorch's `glu` is this with a sigmoid; diffusers' GEGLU with [`Unary::Gelu`], SwiGLU with [`Unary::Silu`]. The
/// second half is the gate unless `gate_first`, as where a projection's gate comes before its values (Llama's).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// The function of the gate.
    pub function: Unary,
    /// Whether the first half is the gate.
    pub gate_first: bool,
}

impl Op for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new("gate", inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input")) };
        let [lead @ .., last] = &x.shape[..] else { return Err(wrong("wants an axis to split")) };
        if !x.dtype.is_float() {
            return Err(wrong("wants a floating-point input"));
        }
        if !last.is_multiple_of(2) {
            return Err(wrong("the last axis has no halves"));
        }
        Ok(vec![TensorDesc::new([lead, &[last / 2]].concat(), x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let y = self.infer(&[inputs[0].desc()])?.swap_remove(0);
        let half = y.last();
        let x = inputs[0].to_f64();
        let (values, gates) = if self.gate_first { (half, 0) } else { (0, half) };
        let result: Vec<f64> = (0..y.len())
            .map(|i| {
                let start = i / half * half * 2 + i % half;
                x[start + values] * self.function.apply(x[start + gates])
            })
            .collect();
        Ok(vec![Tensor::from_f64(y.shape, y.dtype, &result)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[io.inputs[0].rank() - 1])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        const WORKGROUP: usize = 64;
        let y = &io.outputs[0];
        let half = y.last();
        let vec4 = half.is_multiple_of(4);
        let (chain, rest) = fitting(Vec::new(), 2, io.epilogue, tier);
        let gate = format!("fn gate(v: vec4<f32>) -> vec4<f32> {{ return {}; }}\n", self.function.wgsl("v"));
        let mut parts = vec![units::elem(y.dtype), shaders::GRID, units::load(vec4), units::store(vec4)];
        parts.extend([Unit::generated("gate", gate), shaders::GATE]);
        parts.extend(chain.units(y, vec4));
        let (values, gates) = if self.gate_first { (half, 0) } else { (0, half) };
        let params = GateParams {
            len: y.len() as u32,
            half: half as u32,
            values: values as u32,
            gates: gates as u32,
            ..Default::default()
        };
        let groups = (y.len() / if vec4 { 4 } else { 1 }).div_ceil(WORKGROUP) as u64;
        let kernel = Kernel::new(parts).set("WORKGROUP", WORKGROUP as u32);
        let dispatch =
            Dispatch::new(kernel, params, groups).bind("x", Source::Input(0)).bind("y", Source::Output(0));
        Ok(vec![finish(Launch::one("elementwise", chain.bind(dispatch, 1)), &rest, 1, io, tier)])
    }

    fn flops(&self, io: &Io) -> u64 {
        2 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// The first half of the last axis times a function of the second.
    pub fn gate(&mut self, x: Value, function: Unary) -> Result<Value, GraphError> {
        self.op(Gate { function, gate_first: false }, &[x])
    }

    /// The second half of the last axis times a function of the first.
    pub fn gate_first(&mut self, x: Value, function: Unary) -> Result<Value, GraphError> {
        self.op(Gate { function, gate_first: true }, &[x])
    }
}

/// Cases: the usual functions, halves of whole vectors and not.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for function in [Unary::Sigmoid, Unary::Gelu, Unary::Silu, Unary::LeakyRelu { slope: 0.1 }] {
        for shape in [&[3, 10][..], &[2, 5, 64], &[130], &[4, 2], &[0, 6]] {
            let x = Fill::uniform(-4.0, 4.0).shape(shape);
            cases.push(Case::new(Gate { function, gate_first: false }, [x.clone()]));
            if shape.len() == 2 {
                cases.push(Case::new(Gate { function, gate_first: true }, [x]));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn the_last_axis_must_have_halves() {
        let gate = Gate { function: Unary::Relu, gate_first: false };
        let infer = |shape: &[usize]| gate.infer(&[TensorDesc::new(shape, DType::F32)]);
        assert_eq!(infer(&[3, 10]), Ok(vec![TensorDesc::new([3, 5], DType::F32)]));
        assert!(infer(&[3, 9]).is_err());
        assert!(infer(&[]).is_err());
    }

    #[test]
    fn one_half_scales_the_other() {
        let x = Tensor::f32([1, 4], vec![2., 3., 5., -7.]).unwrap();
        let gate = Gate { function: Unary::Relu, gate_first: false };
        assert_eq!(gate.reference(&[&x]).unwrap()[0].as_f32(), Some(&[10., 0.][..]));
        let gate = Gate { gate_first: true, ..gate };
        assert_eq!(gate.reference(&[&x]).unwrap()[0].as_f32(), Some(&[10., -21.][..]));
    }
}
