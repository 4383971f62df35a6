//! Functions of two numbers, applied to every pair of elements.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::rows::{chain, finish, fitting};
use crate::ops::{broadcast as walk, elementwise};
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Independence, Io, Launch, Op, OpError, Source, Spread, Step,
    Tensor, TensorDesc, Tier, Value,
};

/// A function of two numbers of one type; shapes broadcast. Integers have sums, differences, products, which wrap, minima
/// and maxima.
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
    /// The smaller; NaN where either is.
    Min,
    /// The larger; NaN where either is.
    Max,
    /// `a^b`, as C's `pow`.
    Pow,
}

impl Binary {
    /// The function, in f64.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Min | Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Pow => a.powf(b),
        }
    }

    /// The number by which the integer kernel knows the function, where it has it.
    fn integer_function(self) -> Option<u32> {
        match self {
            Binary::Add => Some(0),
            Binary::Sub => Some(1),
            Binary::Mul => Some(2),
            Binary::Min => Some(3),
            Binary::Max => Some(4),
            Binary::Div | Binary::Pow => None,
        }
    }

    /// The function of integers, to be cut to 32 bits. Those that integers do not have give 0.
    fn wrapping(self, a: i64, b: i64) -> i64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            // Of unsigned numbers the product may need all 64 bits.
            Binary::Mul => a.wrapping_mul(b),
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Div | Binary::Pow => 0,
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
            Binary::Pow => "power",
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
        if a.dtype != b.dtype {
            return Err(wrong("wants two inputs of one type"));
        }
        if !a.dtype.is_float() && (a.dtype == DType::Bool || self.integer_function().is_none()) {
            return Err(wrong("is not defined for this type"));
        }
        let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| wrong("the shapes do not broadcast"))?;
        walk::check("binary", inputs, &shape)?;
        Ok(vec![TensorDesc::new(shape, a.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0);
        let a_index = broadcast_indices(inputs[0].shape(), &out.shape);
        let b_index = broadcast_indices(inputs[1].shape(), &out.shape);
        if let (Some(a), Some(b)) = (inputs[0].as_i32(), inputs[1].as_i32()) {
            let wrapped = |i| self.wrapping(i64::from(a[a_index(i)]), i64::from(b[b_index(i)])) as i32;
            let values = (0..out.len()).map(wrapped).collect();
            return Ok(vec![Tensor::i32(out.shape, values)?]);
        }
        if let (Some(a), Some(b)) = (inputs[0].as_u32(), inputs[1].as_u32()) {
            let wrapped = |i| self.wrapping(i64::from(a[a_index(i)]), i64::from(b[b_index(i)])) as u32;
            let values = (0..out.len()).map(wrapped).collect();
            return Ok(vec![Tensor::u32(out.shape, values)?]);
        }
        let (a, b) = (inputs[0].to_f64(), inputs[1].to_f64());
        let values: Vec<f64> = (0..out.len()).map(|i| self.apply(a[a_index(i)], b[b_index(i)])).collect();
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &values)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (a, b, y) = (&io.inputs[0], &io.inputs[1], &io.outputs[0]);
        let bound = |dispatch: Dispatch| {
            dispatch.bind("a", Source::Input(0)).bind("b", Source::Input(1)).bind("y", Source::Output(0))
        };
        if let (false, Some(function)) = (y.dtype.is_float(), self.integer_function()) {
            let mut dispatch = walk::dispatch(&[shaders::BROADCAST_INTEGER], &[a, b], walk::elem(y), y);
            dispatch.kernel = dispatch.kernel.set("FUNCTION", function);
            return Ok(vec![Launch::one("strided", bound(dispatch))]);
        }
        // One input has the result's shape, and the other spreads over it in a way that epilogues know.
        for (x, other) in [(0, 1), (1, 0)] {
            let Some(spread) = Spread::of(&io.inputs[other].shape, &y.shape) else { continue };
            if io.inputs[x].shape != y.shape {
                continue;
            }
            let own = vec![Step::Binary { function: *self, operand: 0, spread, swapped: x == 1 }];
            // The first operand is the other input, the epilogue's own follow it.
            let mut dispatch = elementwise::dispatch(&chain(own, io.epilogue), Source::Input(x), 1, y, tier);
            for binding in dispatch.bindings.iter_mut().filter(|binding| binding.name == "operand0") {
                binding.source = Source::Input(other);
            }
            return Ok(vec![Launch::one("elementwise", dispatch)]);
        }
        let text = format!(
            "fn binary(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {{ return {}(a, b); }}\n",
            self.wgsl()
        );
        let (chain, rest) = fitting(Vec::new(), 3, io.epilogue, tier);
        let mut units = vec![Unit::generated("binary", text), shaders::BROADCAST_FLOAT];
        units.extend(chain.units(y, false));
        let dispatch = bound(walk::dispatch(&units, &[a, b], walk::elem(y), y));
        Ok(vec![finish(Launch::one("strided", chain.bind(dispatch, 2)), &rest, 2, io, tier)])
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

    /// `a - b`.
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.binary(Binary::Sub, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.binary(Binary::Div, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.binary(Binary::Mul, a, b)
    }
}

/// Cases: every function, every way to broadcast, integers that wrap, powers of every kind, epilogues.
pub fn cases() -> Vec<Case> {
    use crate::Epilogue;
    use crate::ops::Unary;
    let x = || Fill::uniform(0.5, 2.0);
    let mut cases = Vec::new();
    for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max, Binary::Pow] {
        cases.push(Case::new(f, [x().shape([3, 129]), x().shape([3, 129])]));
        cases.push(Case::new(f, [x().shape([3, 128]), x().shape([128])]));
        cases.push(Case::new(f, [x().shape([3, 1]), x().shape([1, 33])]));
    }
    for (a, b) in [
        (&[6][..], &[3, 6][..]),
        (&[], &[2, 5]),
        (&[2, 5], &[]),
        (&[2, 1, 1, 8], &[2, 3, 3, 8]),
        (&[2, 3, 1], &[2, 3, 4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 1, 4, 1, 3], &[1, 5, 1, 6, 3]),
        (&[2, 1, 2, 1, 2, 1, 2, 1], &[1, 2, 1, 2, 1, 2, 1, 3]),
        (&[0, 3], &[1, 3]),
        (&[1, 1], &[1]),
    ] {
        cases.push(Case::new(Binary::Sub, [x().shape(a), x().shape(b)]));
    }
    for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max] {
        for (rows, dtype) in [(2, DType::I32), (4, DType::U32)] {
            let large = Fill::given(dtype, [3.0, 2147483647.0, 65537.0, 1000000007.0, 0.0]);
            let inputs = [large.clone().shape([rows, 5]), large.shape([3, 1, 1])];
            cases.push(Case::new(f, inputs).f32_only().exact());
        }
        let negative = |shape: &[usize]| Fill::typed(DType::I32, -9, 9).shape(shape);
        cases.push(Case::new(f, [negative(&[7, 9]), negative(&[7, 9])]).f32_only().exact());
    }
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for f in [Binary::Min, Binary::Max] {
        let special = Fill::given(DType::F32, [nan, 1.0, -inf, inf, -2.0]);
        cases.push(Case::new(f, [special.clone().shape([5, 1]), special.shape([5])]));
    }
    let bases = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 10.0, -3.0, 1e-3, inf, -inf, nan];
    let exponents = [0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -2.5, 30.0, inf, -inf, nan];
    let powers = [
        Fill::given(DType::F32, bases).shape([bases.len(), 1]),
        Fill::given(DType::F32, exponents).shape([exponents.len()]),
    ];
    cases.push(Case::new(Binary::Pow, powers).f32_only());
    let step = |function, operand, spread| Step::Binary { function, operand, spread, swapped: false };
    let steps = vec![
        step(Binary::Mul, 0, Spread::Last),
        Step::Unary(Unary::Silu),
        step(Binary::Max, 1, Spread::Full),
        step(Binary::Pow, 2, Spread::Scalar),
    ];
    for (a, b) in [([3, 8], [1, 8]), ([1, 8], [3, 8]), ([3, 1], [1, 8]), ([3, 1], [1, 7])] {
        let y = [3, a[1].max(b[1])];
        let inputs = [x().shape(a), x().shape(b), x().shape([y[1]]), x().shape(y), x().shape(Vec::new())];
        cases.push(Case::new(Binary::Sub, inputs).epilogue(Epilogue { steps: steps.clone() }));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_shapes_must_agree() {
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let infer = |f: Binary, a, b| f.infer(&[a, b]).map(|mut out| out.swap_remove(0).shape);
        let f32s = |shape: &[usize]| desc(shape, DType::F32);
        assert_eq!(infer(Binary::Add, f32s(&[2, 1]), f32s(&[3])), Ok(vec![2, 3]));
        assert!(infer(Binary::Add, f32s(&[2]), f32s(&[3])).is_err());
        assert!(infer(Binary::Add, f32s(&[2]), desc(&[2], DType::F16)).is_err());
        assert!(infer(Binary::Div, desc(&[2], DType::I32), desc(&[2], DType::I32)).is_err());
        assert!(infer(Binary::Add, desc(&[2], DType::Bool), desc(&[2], DType::Bool)).is_err());
    }

    #[test]
    fn integers_wrap() {
        let a = Tensor::i32([2], vec![i32::MAX, 3]).unwrap();
        assert_eq!(Binary::Add.reference(&[&a, &a]).unwrap()[0].as_i32(), Some(&[-2, 6][..]));
        let a = Tensor::u32([2], vec![u32::MAX, 3]).unwrap();
        assert_eq!(Binary::Mul.reference(&[&a, &a]).unwrap()[0].as_u32(), Some(&[1, 9][..]));
    }
}
