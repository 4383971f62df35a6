//! Softmax and its logarithm along an axis.

use kiln_shaders as shaders;

use crate::ops::rows::{Columns, Rows, chain, rows_of};
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value,
    params,
};

params! {
    struct RowParams { rows: u32, len: u32 }
}

params! {
    struct LineParams { lines: u32, len: u32, inner: u32, last: u32 }
}

/// `e^x / sum(e^x)` along an axis, or its logarithm, as PyTorch's `softmax` and `log_softmax`.
///
/// Large arguments do not overflow. Minus infinity takes no share; where everything is minus infinity, or something
/// is plus infinity or NaN, the result is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
    /// Whether the logarithm is given.
    pub log: bool,
}

impl Softmax {
    /// The extents before, of and after the axis.
    fn extents(&self, shape: &[usize]) -> [usize; 3] {
        let product = |extents: &[usize]| extents.iter().product();
        [product(&shape[..self.axis]), shape[self.axis], product(&shape[self.axis + 1..])]
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        match inputs {
            [x] if !x.dtype.is_float() => {
                Err(OpError::new("softmax", inputs, "wants a floating-point input"))
            }
            [x] if self.axis < x.rank() => Ok(vec![x.clone()]),
            [_] => Err(OpError::new("softmax", inputs, format!("there is no axis {}", self.axis))),
            _ => Err(OpError::new("softmax", inputs, "wants one input")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let [outer, len, inner] = self.extents(x.shape());
        let mut values = x.to_f64();
        for start in (0..outer).flat_map(|o| (0..inner).map(move |i| o * len * inner + i)) {
            let at = |k: usize| start + k * inner;
            // f64's max passes over NaN; the sum does not.
            let largest = (0..len).map(|k| values[at(k)]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..len).map(|k| (values[at(k)] - largest).exp()).sum();
            for k in 0..len {
                let v = values[at(k)] - largest;
                values[at(k)] = if self.log { v - sum.ln() } else { v.exp() / sum };
            }
        }
        Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[self.axis])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let [_, len, inner] = self.extents(&x.shape);
        let chain = chain(Vec::new(), io.epilogue);
        if inner != 1 {
            let lines = x.len() / len;
            let params = LineParams {
                lines: lines as u32,
                len: len as u32,
                inner: inner as u32,
                last: x.last() as u32,
                ..Default::default()
            };
            let columns = Columns {
                lines,
                len,
                lane: &[shaders::SOFTMAX_KIND, shaders::SOFTMAX_COLUMNS],
                workgroup: &[shaders::SOFTMAX_KIND, shaders::SOFTMAX_COLUMNS_WORKGROUP],
                overrides: &[("LOGARITHM", u32::from(self.log))],
                params: params.into(),
            };
            return Ok(columns.launches(&chain, x, tier));
        }
        let rows = Rows {
            rows: rows_of(io, len),
            len,
            lane: &[shaders::SOFTMAX_KIND, shaders::SOFTMAX_ROWS_LANE],
            workgroup: &[shaders::SOFTMAX_KIND, shaders::SOFTMAX_ROWS_WORKGROUP],
            overrides: &[("LOGARITHM", u32::from(self.log))],
            params: &|rows| RowParams { rows, len: len as u32, ..Default::default() }.into(),
        };
        Ok(rows.launches(&chain, x.dtype, tier))
    }

    fn flops(&self, io: &Io) -> u64 {
        5 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// Softmax along an axis; -1 is the last.
    pub fn softmax(&mut self, x: Value, axis: isize) -> Result<Value, GraphError> {
        let axis = self.axis(x, axis);
        self.op(Softmax { axis, log: false }, &[x])
    }

    /// Logarithm of softmax along an axis; -1 is the last.
    pub fn log_softmax(&mut self, x: Value, axis: isize) -> Result<Value, GraphError> {
        let axis = self.axis(x, axis);
        self.op(Softmax { axis, log: true }, &[x])
    }

    /// An axis counted from the end where it is negative. One that there is not stays one that there is not.
    pub(crate) fn axis(&self, x: Value, axis: isize) -> usize {
        let rank = self.shape(x).len() as isize;
        usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(usize::MAX)
    }
}

/// Cases: lengths around the workgroups' sizes, large and constant rows, infinities.
pub fn cases() -> Vec<Case> {
    let softmax = Softmax { axis: 1, log: false };
    let log_softmax = Softmax { axis: 1, log: true };
    let x = || Fill::uniform(-4.0, 4.0);
    let mut cases = Vec::new();
    for len in [1, 2, 3, 7, 32, 33, 63, 64, 65, 128, 197, 255, 256, 257, 1000, 4097] {
        let rows = if len > 256 { 2 } else { 5 };
        cases.push(Case::new(softmax, [x().shape([rows, len])]));
        if len % 2 == 1 {
            cases.push(Case::new(log_softmax, [x().shape([rows, len])]));
        }
    }
    cases.push(Case::new(softmax, [x().shape([1030, 12])]));
    // Longer than one invocation's loops may be, and long enough for a workgroup.
    cases.push(Case::new(softmax, [x().shape([1, 65537])]));
    cases.push(Case::new(softmax, [x().shape([1, 21001, 4])]));
    cases.push(Case::new(log_softmax, [x().shape([2, 301, 3])]));
    for (axis, shape) in
        [(1, &[2, 3, 7][..]), (0, &[2, 33, 5]), (0, &[9, 8]), (1, &[3, 65, 12]), (1, &[2, 5, 2, 2])]
    {
        cases.push(Case::new(Softmax { axis, log: false }, [x().shape(shape)]));
        cases.push(Case::new(Softmax { axis, log: true }, [x().shape(shape)]));
    }
    cases.push(Case::new(Softmax { axis: 3, log: false }, [x().shape([2, 3, 5, 50])]));
    cases.push(Case::new(softmax, [x().shape([0, 12])]));
    cases.push(Case::new(softmax, [x().shape([3, 0])]));
    let given = |values: &[f64], shape: [usize; 2]| Fill::given(DType::F32, values).shape(shape);
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for op in [softmax, log_softmax] {
        let large = [1e4, -1e4, 0., -1e4, -1e4, -1e4, 88.7, 88.8, 88.9, 7.0, 7.0, 7.0];
        cases.push(Case::new(op, [given(&large, [4, 3])]));
        cases.push(Case::new(op, [given(&[3e38, 3e38, -3e38], [1, 3])]).f32_only());
        let rows = [
            -inf, 0., 1., 2., -inf, -inf, 5., -inf, -inf, -inf, -inf, -inf, inf, 0., 1., 2., nan, 0., 1., 2.,
        ];
        cases.push(Case::new(op, [given(&rows, [5, 4])]));
        cases.push(Case::new(op, [given(&rows, [4, 5])]));
        cases.push(Case::new(Softmax { axis: 0, ..op }, [given(&rows, [5, 4])]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_must_exist() {
        let x = TensorDesc::new([2, 3], DType::F32);
        assert!(Softmax { axis: 1, log: false }.infer(std::slice::from_ref(&x)).is_ok());
        assert!(Softmax { axis: 2, log: false }.infer(&[x]).is_err());
        assert!(Softmax { axis: 0, log: false }.infer(&[TensorDesc::new([2], DType::I32)]).is_err());
    }

    #[test]
    fn shares_add_up_along_any_axis() {
        let x = Tensor::f32([2, 2], vec![0., 0., 0., f32::NEG_INFINITY]).unwrap();
        let rows = Softmax { axis: 1, log: false }.reference(&[&x]).unwrap();
        assert_eq!(rows[0].as_f32(), Some(&[0.5, 0.5, 1., 0.][..]));
        let columns = Softmax { axis: 0, log: false }.reference(&[&x]).unwrap();
        assert_eq!(columns[0].as_f32(), Some(&[0.5, 1., 0.5, 0.][..]));
    }
}
