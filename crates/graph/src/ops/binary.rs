//! Functions of two numbers, applied to every pair of elements.

use crate::ops::elementwise;
use crate::registry::{Case, Fill};
use crate::{
    Builder, Epilogue, GraphError, Io, Launch, Op, OpError, Spread, Step, Tensor, TensorDesc, Tier, Value,
};

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

impl Binary {
    /// The function, in f64.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
        }
    }

    /// The WGSL function of the same meaning on `vec4<f32>`.
    pub fn wgsl(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Min => "minimum",
            Binary::Max => "maximum",
        }
    }
}

/// The shape that two shapes broadcast to, as in NumPy.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).and_then(|i| shape.get(i).copied()).unwrap_or(1)
    };
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (1, q) => Some(q),
            (p, 1) => Some(p),
            (p, q) if p == q => Some(p),
            _ => None,
        })
        .collect()
}

/// Flat index into `shape` for each element of `result`, which it broadcasts to.
pub(crate) fn broadcast_indices(shape: &[usize], result: &[usize]) -> impl Fn(usize) -> usize + use<> {
    let pad = result.len() - shape.len();
    let own = crate::strides(shape);
    let strides: Vec<usize> = (0..result.len())
        .map(|axis| if axis < pad || shape[axis - pad] == 1 { 0 } else { own[axis - pad] })
        .collect();
    let result = result.to_vec();
    move |mut i| {
        let mut index = 0;
        for axis in (0..result.len()).rev() {
            index += i % result[axis] * strides[axis];
            i /= result[axis];
        }
        index
    }
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new("binary", inputs, reason);
        let [a, b] = inputs else { return Err(wrong("wants two inputs")) };
        if a.dtype != b.dtype || !a.dtype.is_float() {
            return Err(wrong("wants two inputs of one floating-point type"));
        }
        let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| wrong("the shapes do not broadcast"))?;
        Ok(vec![TensorDesc::new(shape, a.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0);
        let (a, b) = (inputs[0].to_f64(), inputs[1].to_f64());
        let a_index = broadcast_indices(inputs[0].shape(), &out.shape);
        let b_index = broadcast_indices(inputs[1].shape(), &out.shape);
        let values: Vec<f64> = (0..out.len()).map(|i| self.apply(a[a_index(i)], b[b_index(i)])).collect();
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &values)?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (a, b, y) = (&io.inputs[0], &io.inputs[1], &io.outputs[0]);
        if a.shape == y.shape
            && let Some(spread) = Spread::of(&b.shape, &y.shape)
        {
            // The first operand of the chain is input 1, the epilogue's own follow.
            let mut chain = Epilogue {
                steps: vec![Step::Binary { function: *self, operand: 0, spread, swapped: false }],
            };
            chain.steps.extend(io.epilogue.steps.iter().map(|step| match *step {
                Step::Unary(function) => Step::Unary(function),
                Step::Binary { function, operand, spread, swapped } => {
                    Step::Binary { function, operand: operand + 1, spread, swapped }
                }
            }));
            return Ok(vec![elementwise::launch_chain(&chain, io, tier)]);
        }
        Err(OpError::new("binary", io.inputs, "cannot broadcast both inputs yet"))
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// Applies a function to every pair of elements; shapes broadcast.
    pub fn binary(&mut self, function: Binary, a: Value, b: Value) -> Result<Value, GraphError> {
        self.op(function, &[a, b])
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.binary(Binary::Add, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.binary(Binary::Mul, a, b)
    }
}

/// Cases: every function, every way to broadcast.
pub fn cases() -> Vec<Case> {
    let x = || Fill::uniform(0.5, 2.0);
    let mut cases = Vec::new();
    for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max] {
        cases.push(Case::new(f, [x().shape([3, 129]), x().shape([3, 129])]));
        cases.push(Case::new(f, [x().shape([3, 128]), x().shape([128])]));
    }
    cases
}
