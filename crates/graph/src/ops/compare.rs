//! Comparisons of numbers, and logic on truth values.

use kiln_shaders as shaders;

use crate::ops::binary::{broadcast, broadcast_indices};
use crate::ops::broadcast as walk;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, GraphError, Independence, Io, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier,
    Value,
};

/// A comparison of two numbers of one type, which gives a truth value; shapes broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `a == b`.
    Eq,
    /// `a != b`; true where either is NaN.
    Ne,
    /// `a < b`.
    Lt,
    /// `a <= b`.
    Le,
    /// `a > b`.
    Gt,
    /// `a >= b`.
    Ge,
}

/// A function of two truth values; shapes broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Logical {
    /// Both.
    And,
    /// Either.
    Or,
    /// One of them alone.
    Xor,
}

fn infer(op: &'static str, inputs: &[TensorDesc], logical: bool) -> Result<Vec<TensorDesc>, OpError> {
    let wrong = |reason: &str| OpError::new(op, inputs, reason);
    let [a, b] = inputs else { return Err(wrong("wants two inputs")) };
    if a.dtype != b.dtype || (logical && a.dtype != DType::Bool) {
        return Err(wrong(if logical { "wants two truth values" } else { "wants two inputs of one type" }));
    }
    let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| wrong("the shapes do not broadcast"))?;
    walk::check(op, inputs, &shape)?;
    Ok(vec![TensorDesc::new(shape, DType::Bool)])
}

/// Applies a function to pairs of elements, which f64 holds whatever their type.
fn reference(
    shape: Vec<usize>,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(f64, f64) -> bool,
) -> Result<Tensor, OpError> {
    let (a_index, b_index) = (broadcast_indices(a.shape(), &shape), broadcast_indices(b.shape(), &shape));
    let (a, b) = (a.to_f64(), b.to_f64());
    let len = shape.iter().product();
    let values = (0..len).map(|i| u32::from(f(a[a_index(i)], b[b_index(i)]))).collect();
    Ok(Tensor::bool(shape, values)?)
}

impl Op for Compare {
    fn name(&self) -> &'static str {
        "compare"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        infer("compare", inputs, false)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let shape = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0).shape;
        let result = reference(shape, inputs[0], inputs[1], |a, b| match self {
            Compare::Eq => a == b,
            Compare::Ne => a != b,
            Compare::Lt => a < b,
            Compare::Le => a <= b,
            Compare::Gt => a > b,
            Compare::Ge => a >= b,
        })?;
        Ok(vec![result])
    }

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
    }

    fn launches(&self, io: &Io, _: &Tier) -> Result<Vec<Launch>, OpError> {
        let (a, b) = (&io.inputs[0], &io.inputs[1]);
        let comparable =
            if a.dtype.is_float() { shaders::COMPARABLE_FLOAT } else { shaders::COMPARABLE_INTEGER };
        let units = [comparable, shaders::BROADCAST_COMPARE];
        let mut dispatch = walk::dispatch(&units, &[a, b], walk::elem(a), &io.outputs[0]);
        dispatch.kernel = dispatch.kernel.set("FUNCTION", *self as u32);
        let dispatch =
            dispatch.bind("a", Source::Input(0)).bind("b", Source::Input(1)).bind("y", Source::Output(0));
        Ok(vec![Launch::one("strided", dispatch)])
    }
}

impl Op for Logical {
    fn name(&self) -> &'static str {
        "logical"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        infer("logical", inputs, true)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let shape = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0).shape;
        let result = reference(shape, inputs[0], inputs[1], |a, b| match self {
            Logical::And => a != 0.0 && b != 0.0,
            Logical::Or => a != 0.0 || b != 0.0,
            Logical::Xor => (a != 0.0) != (b != 0.0),
        })?;
        Ok(vec![result])
    }

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
    }

    fn launches(&self, io: &Io, _: &Tier) -> Result<Vec<Launch>, OpError> {
        let (a, b) = (&io.inputs[0], &io.inputs[1]);
        let mut dispatch =
            walk::dispatch(&[shaders::BROADCAST_INTEGER], &[a, b], walk::elem(a), &io.outputs[0]);
        let function = match self {
            Logical::And => 5,
            Logical::Or => 6,
            Logical::Xor => 7,
        };
        dispatch.kernel = dispatch.kernel.set("FUNCTION", function);
        let dispatch =
            dispatch.bind("a", Source::Input(0)).bind("b", Source::Input(1)).bind("y", Source::Output(0));
        Ok(vec![Launch::one("strided", dispatch)])
    }
}

impl Builder {
    /// A comparison of pairs of elements.
    pub fn compare(&mut self, function: Compare, a: Value, b: Value) -> Result<Value, GraphError> {
        self.op(function, &[a, b])
    }

    /// A function of pairs of truth values.
    pub fn logical(&mut self, function: Logical, a: Value, b: Value) -> Result<Value, GraphError> {
        self.op(function, &[a, b])
    }

    /// Whether a truth value does not hold.
    pub fn logical_not(&mut self, a: Value) -> Result<Value, GraphError> {
        let truth = self.constant(
            Tensor::bool(Vec::new(), vec![1])
                .map_err(|error| GraphError::Op { path: self.path(), error: error.into() })?,
        );
        self.logical(Logical::Xor, a, truth)
    }
}

/// Cases: every function on every type, equal numbers and NaN among them, broadcast both ways.
pub fn cases() -> Vec<Case> {
    let few = || Fill::integers(-2, 2);
    let mut cases = Vec::new();
    for f in [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge] {
        cases.push(Case::new(f, [few().shape([3, 65]), few().shape([3, 65])]).exact());
        let special = Fill::given(DType::F32, [f64::NAN, 1.0, f64::INFINITY, -1.0, f64::NEG_INFINITY]);
        cases.push(Case::new(f, [special.clone().shape([5, 1]), special.shape([1, 5])]).exact());
        let integers = Fill::given(DType::I32, [16777216.0, 16777217.0, -5.0, 2147483647.0, -2147483648.0]);
        cases.push(Case::new(f, [integers.clone().shape([5]), integers.shape([5, 1])]).f32_only().exact());
    }
    let counts = |shape: &[usize]| Fill::typed(DType::U32, 0, 3).shape(shape);
    for (a, b) in [(&[4, 7][..], &[7][..]), (&[2, 1, 5], &[3, 1]), (&[], &[6]), (&[0, 3], &[1, 3])] {
        cases.push(Case::new(Compare::Le, [counts(a), counts(b)]).f32_only().exact());
    }
    let truth = |shape: &[usize]| Fill::typed(DType::Bool, 0, 1).shape(shape);
    for f in [Logical::And, Logical::Or, Logical::Xor] {
        cases.push(Case::new(f, [truth(&[3, 33]), truth(&[3, 33])]).f32_only().exact());
        cases.push(Case::new(f, [truth(&[3, 1]), truth(&[2, 1, 9])]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_shapes_must_agree() {
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let floats = [desc(&[2, 1], DType::F32), desc(&[3], DType::F32)];
        assert_eq!(Compare::Lt.infer(&floats), Ok(vec![desc(&[2, 3], DType::Bool)]));
        assert!(Logical::And.infer(&floats).is_err());
        assert!(Compare::Lt.infer(&[desc(&[2], DType::F32), desc(&[2], DType::I32)]).is_err());
        assert!(Compare::Lt.infer(&[desc(&[2], DType::F32), desc(&[3], DType::F32)]).is_err());
    }

    #[test]
    fn nan_is_unequal() {
        let x = Tensor::f32([2], vec![f32::NAN, 1.0]).unwrap();
        assert_eq!(Compare::Eq.reference(&[&x, &x]).unwrap()[0].as_bool(), Some(&[0, 1][..]));
        assert_eq!(Compare::Ne.reference(&[&x, &x]).unwrap()[0].as_bool(), Some(&[1, 0][..]));
    }
}
