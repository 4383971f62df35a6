//! The same elements several times.

use crate::ops::strided::{self, Walk};
use crate::registry::{Case, Fill};
use crate::{Builder, DType, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Axes of extent 1 widened, and new axes in front, as in NumPy's broadcasting. PyTorch's `expand`, made contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The result's extents.
    pub shape: Vec<usize>,
}

/// The whole tensor again and again along each axis: PyTorch's `repeat`, NumPy's `tile`. More counts than axes add
/// axes in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// How often, for each axis of the result.
    pub counts: Vec<usize>,
}

/// Each index of an axis several times in a row: PyTorch's `repeat_interleave`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatInterleave {
    /// The axis.
    pub axis: usize,
    /// How often.
    pub count: usize,
}

/// The result's shape and the walk through the input that fills it, or what is wrong.
type Plan = Result<(Vec<usize>, Walk), String>;

fn plan_of(
    op: &'static str,
    inputs: &[TensorDesc],
    plan: impl Fn(&TensorDesc) -> Plan,
) -> Result<(Vec<usize>, Walk), OpError> {
    let wrong = |reason: String| OpError::new(op, inputs, reason);
    let [x] = inputs else { return Err(wrong("wants one input".into())) };
    let (shape, walk) = plan(x).map_err(wrong)?;
    if shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent)).is_none() {
        return Err(wrong("the result is too large".into()));
    }
    if !walk.fits() {
        return Err(wrong("repeats over more than eight separate axes".into()));
    }
    Ok((shape, walk))
}

impl Expand {
    fn plan(&self, x: &TensorDesc) -> Plan {
        let Some(pad) = self.shape.len().checked_sub(x.rank()) else {
            return Err(format!("has more axes than {:?}", self.shape));
        };
        let own = x.strides();
        let mut strides = vec![0; pad];
        for (axis, &extent) in x.shape.iter().enumerate() {
            strides.push(match (extent, self.shape[pad + axis]) {
                (p, q) if p == q => own[axis] as isize,
                (1, _) => 0,
                _ => return Err(format!("does not broadcast to {:?}", self.shape)),
            });
        }
        Ok((self.shape.clone(), Walk::reading(&self.shape, &strides, 0)))
    }
}

impl Repeat {
    fn plan(&self, x: &TensorDesc) -> Plan {
        let Some(pad) = self.counts.len().checked_sub(x.rank()) else {
            return Err(format!("has more axes than the counts {:?}", self.counts));
        };
        let own = x.strides();
        let (mut shape, mut split, mut strides) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, &count) in self.counts.iter().enumerate() {
            let inner = axis.checked_sub(pad).map(|axis| (x.shape[axis], own[axis] as isize));
            let (extent, stride) = inner.unwrap_or((1, 0));
            shape.push(count.saturating_mul(extent));
            split.extend([count, extent]);
            strides.extend([0, stride]);
        }
        Ok((shape, Walk::reading(&split, &strides, 0)))
    }
}

impl RepeatInterleave {
    fn plan(&self, x: &TensorDesc) -> Plan {
        if self.axis >= x.rank() {
            return Err(format!("there is no axis {}", self.axis));
        }
        let mut shape = x.shape.clone();
        shape[self.axis] = shape[self.axis].saturating_mul(self.count);
        let (mut split, mut strides) = (x.shape.clone(), Vec::new());
        split.insert(self.axis + 1, self.count);
        strides.extend(x.strides().into_iter().map(|stride| stride as isize));
        strides.insert(self.axis + 1, 0);
        Ok((shape, Walk::reading(&split, &strides, 0)))
    }
}

macro_rules! repeating_op {
    ($op:ty, $name:literal) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
                let (shape, _) = plan_of($name, inputs, |x| self.plan(x))?;
                Ok(vec![TensorDesc::new(shape, inputs[0].dtype)])
            }

            fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                let (shape, walk) = plan_of($name, &[inputs[0].desc()], |x| self.plan(x))?;
                strided::reference(&walk, inputs[0], &shape)
            }

            fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
                let (_, walk) = plan_of($name, io.inputs, |x| self.plan(x))?;
                let dispatches = strided::dispatches(&walk, io, 0, tier);
                Ok(vec![Launch { name: "strided", dispatches, ..Launch::default() }])
            }

            fn flops(&self, _: &Io) -> u64 {
                0
            }
        }
    };
}
repeating_op!(Expand, "expand");
repeating_op!(Repeat, "repeat");
repeating_op!(RepeatInterleave, "repeat_interleave");

impl Builder {
    /// `x` broadcast to a shape.
    pub fn expand(&mut self, x: Value, shape: impl Into<Vec<usize>>) -> Result<Value, GraphError> {
        let shape = shape.into();
        if shape == self.shape(x) {
            return Ok(x);
        }
        self.op(Expand { shape }, &[x])
    }

    /// `x` again and again, so often along each axis.
    pub fn repeat(&mut self, x: Value, counts: impl Into<Vec<usize>>) -> Result<Value, GraphError> {
        self.op(Repeat { counts: counts.into() }, &[x])
    }

    /// Each index of an axis `count` times in a row.
    pub fn repeat_interleave(&mut self, x: Value, axis: usize, count: usize) -> Result<Value, GraphError> {
        self.op(RepeatInterleave { axis, count }, &[x])
    }
}

/// Cases: new and widened axes, runs of every width, no repetition at all, every type.
pub fn cases() -> Vec<Case> {
    let x = |shape: &[usize]| [Fill::uniform(-9.0, 9.0).shape(shape)];
    let expand = |from: &[usize], to: &[usize]| Case::new(Expand { shape: to.to_vec() }, x(from)).exact();
    let repeat =
        |from: &[usize], counts: &[usize]| Case::new(Repeat { counts: counts.to_vec() }, x(from)).exact();
    let interleave =
        |from: &[usize], axis, count| Case::new(RepeatInterleave { axis, count }, x(from)).exact();
    let mut cases = vec![
        expand(&[], &[3, 5]),
        expand(&[1], &[257]),
        expand(&[1, 1, 48], &[3, 1, 48]),
        expand(&[7, 1, 6], &[2, 7, 33, 6]),
        expand(&[7, 1], &[7, 64]),
        expand(&[1, 3], &[0, 3]),
        repeat(&[5], &[3]),
        repeat(&[8], &[2, 3]),
        repeat(&[2, 3], &[2, 2]),
        repeat(&[2, 12], &[31, 1]),
        repeat(&[2, 3, 4], &[1, 0, 1]),
        repeat(&[2, 3, 4, 5], &[2, 3, 1, 2]),
        interleave(&[5], 0, 3),
        interleave(&[2, 4, 16], 1, 3),
        interleave(&[2, 4, 16], 0, 2),
        interleave(&[3, 7, 2], 2, 4),
        interleave(&[3, 7], 1, 0),
    ];
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let high = if dtype == DType::Bool { 1 } else { 1 << 20 };
        let fill = Fill::typed(dtype, 0, high).shape([3, 1, 8]);
        cases.push(Case::new(Expand { shape: vec![3, 5, 8] }, [fill]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_pytorch() {
        let x = [TensorDesc::new([2, 1, 3], DType::F32)];
        assert_eq!(Expand { shape: vec![4, 2, 5, 3] }.infer(&x).unwrap()[0].shape, [4, 2, 5, 3]);
        assert!(Expand { shape: vec![2, 1, 4] }.infer(&x).is_err());
        assert!(Expand { shape: vec![1, 3] }.infer(&x).is_err());
        assert_eq!(Repeat { counts: vec![2, 1, 5, 1] }.infer(&x).unwrap()[0].shape, [2, 2, 5, 3]);
        assert!(Repeat { counts: vec![2, 1] }.infer(&x).is_err());
        assert!(Repeat { counts: vec![usize::MAX, usize::MAX, 1] }.infer(&x).is_err());
        assert_eq!(RepeatInterleave { axis: 2, count: 2 }.infer(&x).unwrap()[0].shape, [2, 1, 6]);
        assert!(RepeatInterleave { axis: 3, count: 2 }.infer(&x).is_err());
    }

    #[test]
    fn repeat_and_interleave_differ() {
        let x = Tensor::i32([2], vec![1, 2]).unwrap();
        let y = Repeat { counts: vec![2] }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[1, 2, 1, 2][..]));
        let y = RepeatInterleave { axis: 0, count: 2 }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[1, 1, 2, 2][..]));
    }
}
