//! One-dimensional convolution.

use crate::ops::conv::{self, Axis, Plan, forward_extent, sums};
use crate::ops::{Binary, conv2d};
use crate::registry::{Case, Fill};
use crate::{Builder, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Cross-correlation of sequences `[batch, length, channels]` with a weight `[out, in / groups, k]`, as PyTorch's
/// `conv1d` on (batch, channels, length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv1d {
    /// Input positions between neighbouring outputs.
    pub stride: usize,
    /// Input positions between neighbouring taps.
    pub dilation: usize,
    /// Zeros before and after; `None` is 'same', see [`Padding::Same`](crate::ops::Padding::Same).
    pub padding: Option<[usize; 2]>,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for Conv1d {
    fn default() -> Self {
        Self { stride: 1, dilation: 1, padding: Some([0; 2]), groups: 1 }
    }
}

impl Conv1d {
    /// A sequence is an image of one row.
    fn plan(&self, inputs: &[TensorDesc]) -> Result<Plan, OpError> {
        let channels = conv::check("conv1d", inputs, 3, self.groups, false)?;
        let (x, weight) = (&inputs[0].shape, &inputs[1].shape);
        let (count, before) = forward_extent(x[1], weight[2], self.stride, self.dilation, self.padding)
            .map_err(|reason| OpError::new("conv1d", inputs, reason))?;
        let rows = Axis::forward(1, 1, 1, 1, 0);
        let columns = Axis::forward(count, weight[2], self.stride, self.dilation, before);
        Ok(Plan {
            op: "conv1d",
            batch: x[0],
            input: [1, x[1]],
            output: [1, count],
            cin: channels.cin,
            cout: channels.cout,
            groups: self.groups,
            kernel: [1, weight[2]],
            transposed: false,
            upsample: 1,
            phases: vec![[rows, columns]],
        })
    }
}

impl Op for Conv1d {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let plan = self.plan(inputs)?;
        plan.describe(inputs, &[plan.batch, plan.output[1], plan.cout])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|tensor| tensor.desc()).collect();
        let plan = self.plan(&descs)?;
        let out = self.infer(&descs)?.swap_remove(0);
        let before = plan.phases.first().map_or(0, |[_, columns]| columns.base.unsigned_abs() as usize);
        let column = |out: usize, tap: usize| {
            let at = (out * self.stride + tap * self.dilation).checked_sub(before)?;
            (at < plan.input[1]).then_some(at)
        };
        sums::reference(&plan, inputs[0], inputs[1], out, |_, _| Some(0), column)
    }

    fn independence(&self, io: &Io) -> Independence {
        conv::independence(io, self.groups, 0)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        self.plan(&io.inputs[..2])?.launches(io, tier)
    }

    fn flops(&self, io: &Io) -> u64 {
        self.plan(&io.inputs[..2]).map_or(0, |plan| plan.flops())
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// A convolution of `x` `[batch, length, channels]` with `weight` `[out, in / groups, k]` and, where there is one,
    /// `bias` `[out]`.
    pub fn conv1d(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
        options: Conv1d,
    ) -> Result<Value, GraphError> {
        let y = self.op(options, &[x, weight])?;
        match bias {
            Some(bias) => self.binary(Binary::Add, y, bias),
            None => Ok(y),
        }
    }
}

/// Cases: causal and centred, strided, dilated, grouped and depthwise.
pub fn cases() -> Vec<Case> {
    let case = |op: Conv1d, x: [usize; 3], weight: [usize; 3], fill: Fill| {
        let depth = weight[1] * weight[2];
        Case::new(op, [fill.clone().shape(x), fill.shape(weight)]).product(depth).constant([1])
    };
    let floats = || Fill::uniform(-1.0, 1.0);
    let conv = Conv1d::default();
    let padded = |before, after| Conv1d { padding: Some([before, after]), ..conv };
    let mut cases: Vec<Case> = [
        (conv, [2, 9, 3], [5, 3, 1]),
        (conv, [1, 65, 16], [32, 16, 3]),
        (Conv1d { groups: 8, ..padded(3, 3) }, [2, 13, 8], [8, 1, 4]),
        (Conv1d { groups: 6, ..padded(3, 0) }, [2, 17, 6], [6, 1, 4]),
        (padded(1, 1), [2, 17, 4], [6, 4, 3]),
        (Conv1d { stride: 2, ..padded(1, 1) }, [2, 17, 4], [6, 4, 3]),
        (Conv1d { groups: 2, dilation: 4, ..padded(4, 4) }, [2, 19, 4], [4, 2, 3]),
        (Conv1d { padding: None, dilation: 2, ..conv }, [1, 31, 8], [12, 8, 4]),
        (Conv1d { stride: 160, ..conv }, [1, 400, 1], [4, 1, 400]),
        (padded(1, 1), [1, 1, 1], [1, 1, 3]),
    ]
    .into_iter()
    .map(|(op, x, weight)| case(op, x, weight, floats()))
    .collect();
    cases.push(case(padded(1, 1), [2, 33, 12], [20, 12, 3], Fill::integers(-4, 4)));
    let inputs = [[2, 9, 8], [12, 8, 3]].map(|shape| floats().shape(shape));
    let operands = [vec![12], vec![2, 1, 12], vec![2, 9, 12]].map(|shape| floats().shape(shape));
    let inputs = [&inputs[..], &operands].concat();
    cases.push(Case::new(padded(1, 1), inputs).constant([1]).epilogue(conv2d::epilogue(9, 12)));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn a_causal_filter() {
        let x = Tensor::f32([1, 4, 1], vec![1., 2., 3., 4.]).unwrap();
        let weight = Tensor::f32([1, 1, 2], vec![10., 1.]).unwrap();
        let y = Conv1d { padding: Some([1, 0]), ..Conv1d::default() }.reference(&[&x, &weight]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[1., 12., 23., 34.][..]));
        assert_eq!(y[0].shape(), [1, 4, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        let conv = Conv1d::default();
        assert!(conv.infer(&[desc(&[1, 2, 3]), desc(&[4, 3, 3])]).is_err());
        assert!(conv.infer(&[desc(&[1, 9, 3]), desc(&[4, 2, 3])]).is_err());
        assert!(conv.infer(&[desc(&[1, 9, 9, 3]), desc(&[4, 3, 3, 3])]).is_err());
        assert!(
            Conv1d { stride: 2, padding: None, ..conv }.infer(&[desc(&[1, 9, 3]), desc(&[4, 3, 3])]).is_err()
        );
    }
}
