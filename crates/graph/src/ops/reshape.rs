//! The same elements under another shape.

use crate::registry::{Case, Fill};
use crate::{Builder, DType, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Stands for the one extent of a shape that follows from the others: PyTorch's -1.
pub const INFER: usize = usize::MAX;

/// The same elements, in the same row-major order, under another shape. Nothing runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The new extents, all of them known.
    pub shape: Vec<usize>,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new(self.name(), inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input".into())) };
        let len = self.shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent));
        if len != Some(x.len()) {
            return Err(wrong(format!("{} elements do not fill {:?}", x.len(), self.shape)));
        }
        Ok(vec![TensorDesc::new(self.shape.clone(), x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![inputs[0].reshape(self.shape.clone())?])
    }

    fn launches(&self, _: &Io, _: &Tier) -> Result<Vec<Launch>, OpError> {
        Ok(vec![Launch { name: "view", ..Launch::default() }])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn bytes(&self, _: &Io) -> u64 {
        0
    }

    fn is_view(&self) -> bool {
        true
    }
}

impl Builder {
    /// `x` under another shape, of which one extent may be [`INFER`].
    pub fn reshape(&mut self, x: Value, shape: impl Into<Vec<usize>>) -> Result<Value, GraphError> {
        let mut shape = shape.into();
        if let Some(axis) = shape.iter().position(|&extent| extent == INFER) {
            let others = shape.iter().enumerate().filter(|&(i, _)| i != axis);
            let others = others.fold(1usize, |len, (_, &extent)| len.saturating_mul(extent));
            // Left as it is where it cannot be known; the op then refuses the shape.
            if let Some(extent) = self.desc(x).len().checked_div(others) {
                shape[axis] = extent;
            }
        }
        if shape == self.shape(x) {
            return Ok(x);
        }
        self.op(Reshape { shape }, &[x])
    }

    /// `x` with axes `first` to `last`, both included, as one.
    pub fn flatten(&mut self, x: Value, first: usize, last: usize) -> Result<Value, GraphError> {
        let mut shape = self.shape(x).to_vec();
        if first <= last && last < shape.len() {
            let extent = shape[first..=last].iter().product();
            shape.splice(first..=last, [extent]);
        } else {
            // More elements than any tensor has: refused with the shape in the message.
            shape.push(INFER - 1);
        }
        self.reshape(x, shape)
    }

    /// `x` with an axis of extent 1 before axis `axis`, which may be the rank.
    pub fn unsqueeze(&mut self, x: Value, axis: usize) -> Result<Value, GraphError> {
        let mut shape = self.shape(x).to_vec();
        shape.insert(axis.min(shape.len()), 1);
        self.reshape(x, shape)
    }

    /// `x` without axis `axis`, whose extent must be 1.
    pub fn squeeze(&mut self, x: Value, axis: usize) -> Result<Value, GraphError> {
        let mut shape = self.shape(x).to_vec();
        if shape.get(axis) == Some(&1) {
            shape.remove(axis);
        } else {
            shape.push(INFER - 1);
        }
        self.reshape(x, shape)
    }
}

/// Cases: every type, scalars, nothing at all.
pub fn cases() -> Vec<Case> {
    let case = |shape: &[usize], to: &[usize]| {
        Case::new(Reshape { shape: to.to_vec() }, [Fill::uniform(-9.0, 9.0).shape(shape)]).exact()
    };
    let mut cases = vec![
        case(&[2, 3, 4], &[6, 4]),
        case(&[], &[1, 1]),
        case(&[1], &[]),
        case(&[0, 3], &[3, 0, 7]),
        case(&[33, 5], &[5, 33]),
    ];
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let fill = Fill::typed(dtype, 0, 1).shape([4, 6]);
        cases.push(Case::new(Reshape { shape: vec![3, 8] }, [fill]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_extent_may_be_left_out() {
        let mut b = Builder::new();
        let x = b.input("x", [2, 3, 4], DType::F32).unwrap();
        let y = b.reshape(x, [INFER, 4]).unwrap();
        assert_eq!(b.shape(y), [6, 4]);
        assert_eq!(b.reshape(x, [2, 3, 4]).unwrap(), x);
        let z = b.flatten(x, 1, 2).unwrap();
        assert_eq!(b.shape(z), [2, 12]);
        let z = b.unsqueeze(x, 3).unwrap();
        assert_eq!(b.shape(z), [2, 3, 4, 1]);
        assert_eq!(b.squeeze(z, 3).map(|z| b.shape(z).to_vec()), Ok(vec![2, 3, 4]));
    }

    #[test]
    fn what_does_not_fill_the_shape_is_refused() {
        let mut b = Builder::new();
        let x = b.input("x", [2, 3], DType::F32).unwrap();
        assert!(b.reshape(x, [5]).is_err());
        assert!(b.reshape(x, [INFER, INFER]).is_err());
        assert!(b.reshape(x, [INFER, 0]).is_err());
        assert!(b.reshape(x, [INFER, 4]).is_err());
        assert!(b.flatten(x, 1, 2).is_err());
        assert!(b.squeeze(x, 0).is_err());
    }
}
