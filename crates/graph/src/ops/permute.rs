//! Axes in another order.

use crate::ops::strided::{self, Walk};
use crate::registry::{Case, Fill};
use crate::{Builder, DType, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Axes in another order: axis `i` of the result is axis `axes[i]` of the input. PyTorch's `permute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permute {
    /// Each of the input's axes once.
    pub axes: Vec<usize>,
}

impl Permute {
    fn walk(&self, x: &TensorDesc) -> Walk {
        let strides = x.strides();
        let extents: Vec<usize> = self.axes.iter().map(|&axis| x.shape[axis]).collect();
        let strides: Vec<isize> = self.axes.iter().map(|&axis| strides[axis] as isize).collect();
        Walk::reading(&extents, &strides, 0)
    }
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new(self.name(), inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input".into())) };
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.rank()) {
            return Err(wrong(format!("{:?} are not the input's axes, each once", self.axes)));
        }
        if !self.walk(x).fits() {
            return Err(wrong("moves more than eight separate axes".into()));
        }
        let shape: Vec<usize> = self.axes.iter().map(|&axis| x.shape[axis]).collect();
        Ok(vec![TensorDesc::new(shape, x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc()])?.swap_remove(0);
        strided::reference(&self.walk(&inputs[0].desc()), inputs[0], &out.shape)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let dispatches = strided::dispatches(&self.walk(x), io, 0, tier);
        Ok(vec![Launch { name: "strided", dispatches, ..Launch::default() }])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// Axis `i` of the result is axis `axes[i]` of `x`.
    pub fn permute(&mut self, x: Value, axes: impl Into<Vec<usize>>) -> Result<Value, GraphError> {
        self.op(Permute { axes: axes.into() }, &[x])
    }

    /// `x` with two axes exchanged.
    pub fn transpose(&mut self, x: Value, a: usize, b: usize) -> Result<Value, GraphError> {
        let mut axes: Vec<usize> = (0..self.shape(x).len()).collect();
        if a < axes.len() && b < axes.len() {
            axes.swap(a, b);
        } else {
            axes.extend([a, b]);
        }
        self.permute(x, axes)
    }
}

/// Cases: attention's and images' orders, runs of every width, odd extents, eight axes, every type.
pub fn cases() -> Vec<Case> {
    let case = |shape: &[usize], axes: &[usize]| {
        Case::new(Permute { axes: axes.to_vec() }, [Fill::uniform(-9.0, 9.0).shape(shape)]).exact()
    };
    let mut cases = vec![
        case(&[], &[]),
        case(&[5], &[0]),
        case(&[0, 3], &[1, 0]),
        case(&[1, 7], &[1, 0]),
        case(&[2, 3], &[1, 0]),
        case(&[33, 65], &[1, 0]),
        case(&[64, 128], &[1, 0]),
        case(&[257, 31], &[1, 0]),
        case(&[2, 17, 3, 16], &[0, 2, 1, 3]),
        case(&[2, 17, 3, 6], &[0, 2, 1, 3]),
        case(&[2, 17, 3, 7], &[0, 2, 1, 3]),
        case(&[2, 17, 3, 16], &[0, 2, 3, 1]),
        case(&[2, 5, 7, 3], &[0, 3, 1, 2]),
        case(&[2, 3, 5, 7], &[0, 2, 3, 1]),
        case(&[3, 4, 2, 8], &[3, 2, 1, 0]),
        case(&[2, 3, 2, 3, 2, 2, 2, 3], &[7, 5, 3, 1, 6, 4, 2, 0]),
        case(&[2, 1, 3, 1, 2, 1, 3, 1, 2, 1], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ];
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let high = if dtype == DType::Bool { 1 } else { 1 << 20 };
        let fill = Fill::typed(dtype, 0, high).shape([3, 8, 5]);
        cases.push(Case::new(Permute { axes: vec![1, 2, 0] }, [fill]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_must_be_the_inputs_own() {
        let x = [TensorDesc::new([2, 3, 4], DType::F32)];
        let permute = |axes: &[usize]| Permute { axes: axes.to_vec() }.infer(&x);
        assert_eq!(permute(&[2, 0, 1]).unwrap()[0].shape, [4, 2, 3]);
        assert!(permute(&[0, 1]).is_err());
        assert!(permute(&[0, 1, 1]).is_err());
        assert!(permute(&[1, 2, 3]).is_err());
        let many = [TensorDesc::new([2; 9], DType::F32)];
        assert!(Permute { axes: (0..9).rev().collect() }.infer(&many).is_err());
        assert!(Permute { axes: (0..9).collect() }.infer(&many).is_ok());
    }

    #[test]
    fn a_matrix_is_transposed() {
        let x = Tensor::f32([2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let y = Permute { axes: vec![1, 0] }.reference(&[&x]).unwrap().swap_remove(0);
        assert_eq!(y, Tensor::f32([3, 2], vec![1., 4., 2., 5., 3., 6.]).unwrap());
    }
}
