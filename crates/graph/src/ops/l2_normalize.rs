//! Vectors of unit length.

use kiln_shaders as shaders;

use crate::ops::rows::{Columns, Rows, chain, rows_of};
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value,
    params,
};

params! {
    struct NormParams { rows: u32, len: u32, eps: f32 }
}

params! {
    struct LineParams { lines: u32, len: u32, inner: u32, last: u32, eps: f32 }
}

/// `x / max(|x|, eps)` with the Euclidean length along an axis, as PyTorch's `normalize`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct L2Normalize {
    /// The axis.
    pub axis: usize,
    /// Smallest divisor.
    pub eps: f32,
}

impl Op for L2Normalize {
    fn name(&self) -> &'static str {
        "l2_normalize"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new("l2_normalize", inputs, reason);
        match inputs {
            [x] if !x.dtype.is_float() => Err(wrong("wants a floating-point input".into())),
            [x] if self.axis >= x.rank() => Err(wrong(format!("there is no axis {}", self.axis))),
            [_] if !self.eps.is_finite() || self.eps < 0.0 => Err(wrong(format!("eps is {}", self.eps))),
            [x] => Ok(vec![x.clone()]),
            _ => Err(wrong("wants one input".into())),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let len = x.shape()[self.axis];
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let outer: usize = x.shape()[..self.axis].iter().product();
        let mut values = x.to_f64();
        for start in (0..outer).flat_map(|o| (0..inner).map(move |i| o * len * inner + i)) {
            let squares: f64 = (0..len).map(|k| values[start + k * inner].powi(2)).sum();
            for k in 0..len {
                values[start + k * inner] /= squares.sqrt().max(f64::from(self.eps));
            }
        }
        Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[self.axis])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let len = x.shape[self.axis];
        let inner: usize = x.shape[self.axis + 1..].iter().product();
        let chain = chain(Vec::new(), io.epilogue);
        if inner != 1 {
            let lines = x.len() / len;
            let params = LineParams {
                lines: lines as u32,
                len: len as u32,
                inner: inner as u32,
                last: x.last() as u32,
                eps: self.eps,
                ..Default::default()
            };
            let columns = Columns {
                lines,
                len,
                lane: &[shaders::L2_COLUMNS],
                workgroup: &[shaders::L2_COLUMNS_WORKGROUP],
                overrides: &[],
                params: params.into(),
            };
            return Ok(columns.launches(&chain, x, tier));
        }
        let rows = Rows {
            rows: rows_of(io, len),
            len,
            lane: &[shaders::NORM_ROWS_FACTOR, shaders::NORM_ROWS_LANE],
            workgroup: &[shaders::NORM_ROWS_FACTOR, shaders::NORM_ROWS_WORKGROUP],
            overrides: &[("CENTRED", 0), ("LENGTH", 1)],
            params: &|rows| NormParams { rows, len: len as u32, eps: self.eps, ..Default::default() }.into(),
        };
        Ok(rows.launches(&chain, x.dtype, tier))
    }

    fn flops(&self, io: &Io) -> u64 {
        3 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// Vectors along an axis (-1 is the last) divided by their Euclidean lengths, or by `eps` where they are shorter.
    pub fn l2_normalize(&mut self, x: Value, axis: isize, eps: f32) -> Result<Value, GraphError> {
        let axis = self.axis(x, axis);
        self.op(L2Normalize { axis, eps }, &[x])
    }
}

/// Cases: every axis, vectors shorter than eps.
pub fn cases() -> Vec<Case> {
    let x = || Fill::uniform(-2.0, 3.0);
    let mut cases = Vec::new();
    for (axis, shape) in [
        (2, &[2, 5, 7][..]),
        (1, &[2, 5, 7]),
        (0, &[2, 5, 7]),
        (1, &[3, 64]),
        (1, &[2, 257]),
        (1, &[1, 1024]),
        (1, &[2, 33, 12]),
        (0, &[5]),
        // Long enough for a workgroup, and longer than one invocation's loops may be.
        (1, &[2, 301, 3]),
        (1, &[1, 33001, 4]),
        (1, &[1, 65537]),
        (1, &[4, 0]),
        (1, &[3, 1]),
    ] {
        cases.push(Case::new(L2Normalize { axis, eps: 1e-12 }, [x().shape(shape)]));
    }
    let zeros = Fill::given(DType::F32, [0.0, 0.0, 0.0, 1.0]);
    cases.push(Case::new(L2Normalize { axis: 1, eps: 1e-12 }, [zeros.clone().shape([4, 3])]));
    cases.push(Case::new(L2Normalize { axis: 0, eps: 2.0 }, [zeros.shape([4, 3])]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_must_exist() {
        let op = |axis| L2Normalize { axis, eps: 1e-12 };
        assert!(op(0).infer(&[TensorDesc::new([2], DType::F32)]).is_ok());
        assert!(op(1).infer(&[TensorDesc::new([2], DType::F32)]).is_err());
        assert!(op(0).infer(&[TensorDesc::new([2], DType::U32)]).is_err());
    }

    #[test]
    fn lengths_become_one_or_stay_small() {
        let x = Tensor::f32([2, 2], vec![3., 4., 0.3, 0.4]).unwrap();
        let y = L2Normalize { axis: 1, eps: 1.0 }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[0.6, 0.8, 0.3, 0.4][..]));
    }
}
