//! Two-dimensional transposed convolution.

use crate::ops::Binary;
use crate::ops::conv::{self, Axis, POSITIONS, Plan, sums};
use crate::ops::conv2d;
use crate::registry::{Case, Fill};
use crate::split::gcd;
use crate::{Builder, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Transposed convolution of images `[batch, height, width, channels]` with a weight `[in, out / groups, kh, kw]`, as
/// PyTorch's `conv_transpose2d` on NCHW images: input pixel `i` adds its product with tap `t` to output
/// `i * stride - padding + t * dilation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// Output pixels between neighbouring inputs: (vertical, horizontal).
    pub stride: [usize; 2],
    /// Output pixels between neighbouring taps.
    pub dilation: [usize; 2],
    /// Rows and columns cut off on each side of the output.
    pub padding: [usize; 2],
    /// Rows added at the bottom and columns added at the right.
    pub output_padding: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for ConvTranspose2d {
    fn default() -> Self {
        Self { stride: [1; 2], dilation: [1; 2], padding: [0; 2], output_padding: [0; 2], groups: 1 }
    }
}

impl ConvTranspose2d {
    /// The same with this stride along both axes.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// The same with this dilation along both axes.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation: [dilation; 2], ..self }
    }

    /// The same with this padding along both axes.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// The same with this output padding along both axes.
    pub fn output_padding(self, output_padding: usize) -> Self {
        Self { output_padding: [output_padding; 2], ..self }
    }

    /// The same with so many groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Outputs along one axis.
    fn extent(&self, axis: usize, input: usize, kernel: usize) -> Result<usize, String> {
        let (stride, dilation) = (self.stride[axis], self.dilation[axis]);
        let (padding, extra) = (self.padding[axis], self.output_padding[axis]);
        if kernel == 0 || stride == 0 || dilation == 0 || input == 0 {
            return Err("input, kernel, stride and dilation must be at least 1".into());
        }
        if stride > 64 {
            // One dispatch for each position within the stride.
            return Err("strides over 64 are not supported".into());
        }
        if extra >= stride.max(dilation) {
            return Err("output padding must be less than the stride or the dilation".into());
        }
        let reach = (kernel - 1).checked_mul(dilation).filter(|&reach| reach < POSITIONS);
        let spread = (input - 1).checked_mul(stride).filter(|&spread| spread < POSITIONS);
        let (Some(reach), Some(spread)) = (reach, spread) else {
            return Err("the output is over 2^30 positions".into());
        };
        if padding >= POSITIONS || extra >= POSITIONS || spread + reach + extra + 1 >= POSITIONS {
            return Err("the output or padding is over 2^30 positions".into());
        }
        (spread + reach + extra + 1)
            .checked_sub(2 * padding)
            .filter(|&out| out > 0)
            .ok_or_else(|| "the padding leaves no output".into())
    }

    /// The outputs at each position within the stride as ordinary convolutions with stride 1, over the taps that
    /// reach them: output `o = q * stride + r` meets tap `t` where `stride` divides `r + padding - t * dilation`.
    fn phases(&self, axis: usize, out: usize, kernel: usize) -> Vec<Axis> {
        let (stride, dilation) = (self.stride[axis], self.dilation[axis]);
        let common = gcd(stride, dilation);
        let phase = |r: usize| {
            let at = |tap: usize| (r + self.padding[axis]) as i64 - tap as i64 * dilation as i64;
            let meets = |tap: &usize| at(*tap).rem_euclid(stride as i64) == 0;
            let first = (0..kernel.min(stride / common)).find(meets);
            let step = stride / common;
            Axis {
                first: r,
                step: stride,
                count: (out - r).div_ceil(stride),
                base: first.map_or(0, |tap| at(tap).div_euclid(stride as i64) as i32),
                stride: 1,
                dilation: -((dilation / common) as i32),
                taps: first.map_or(0, |tap| (kernel - tap).div_ceil(step)),
                tap_first: first.unwrap_or(0),
                tap_step: step,
            }
        };
        (0..stride.min(out)).map(phase).collect()
    }

    pub(super) fn plan(&self, inputs: &[TensorDesc]) -> Result<Plan, OpError> {
        let wrong = |reason: String| OpError::new("conv_transpose2d", inputs, reason);
        let channels = conv::check("conv_transpose2d", inputs, 4, self.groups, true)?;
        let (x, weight) = (&inputs[0].shape, &inputs[1].shape);
        let out_h = self.extent(0, x[1], weight[2]).map_err(wrong)?;
        let out_w = self.extent(1, x[2], weight[3]).map_err(wrong)?;
        let rows = self.phases(0, out_h, weight[2]);
        let columns = self.phases(1, out_w, weight[3]);
        Ok(Plan {
            op: "conv_transpose2d",
            batch: x[0],
            input: [x[1], x[2]],
            output: [out_h, out_w],
            cin: channels.cin,
            cout: channels.cout,
            groups: self.groups,
            kernel: [weight[2], weight[3]],
            transposed: true,
            upsample: 1,
            phases: rows.iter().flat_map(|&h| columns.iter().map(move |&w| [h, w])).collect(),
        })
    }
}

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let plan = self.plan(inputs)?;
        let [h, w] = plan.output;
        plan.describe(inputs, &[plan.batch, h, w, plan.cout])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|tensor| tensor.desc()).collect();
        let plan = self.plan(&descs)?;
        let out = self.infer(&descs)?.swap_remove(0);
        let [row, column] = [0, 1].map(|axis| {
            let extent = plan.input[axis];
            move |out: usize, tap: usize| {
                let at = (out + self.padding[axis]).checked_sub(tap * self.dilation[axis])?;
                let hit = at % self.stride[axis] == 0 && at / self.stride[axis] < extent;
                hit.then_some(at / self.stride[axis])
            }
        });
        sums::reference(&plan, inputs[0], inputs[1], out, row, column)
    }

    fn independence(&self, io: &Io) -> Independence {
        conv::independence(io, self.groups, 1)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        self.plan(&io.inputs[..2])?.launches(io, tier)
    }

    /// Without the options' names, to keep the cases' names short.
    fn attributes(&self) -> String {
        let Self { stride, dilation, padding, output_padding, groups } = self;
        format!(
            "ConvTranspose2d{{stride:{stride:?},padding:{padding:?},output_padding:{output_padding:?},\
             dilation:{dilation:?},groups:{groups}}}"
        )
    }

    fn flops(&self, io: &Io) -> u64 {
        self.plan(&io.inputs[..2]).map_or(0, |plan| plan.flops())
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// A transposed convolution of `x` `[batch, height, width, channels]` with `weight` `[in, out / groups, kh, kw]`
    /// and, where there is one, `bias` `[out]`.
    pub fn conv_transpose2d(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
        options: ConvTranspose2d,
    ) -> Result<Value, GraphError> {
        let y = self.op(options, &[x, weight])?;
        match bias {
            Some(bias) => self.binary(Binary::Add, y, bias),
            None => Ok(y),
        }
    }
}

/// Cases: kernels shorter and longer than the stride, dilation that shares a factor with it or not, groups.
pub fn cases() -> Vec<Case> {
    let case = |op: ConvTranspose2d, x: [usize; 4], weight: [usize; 4], fill: Fill| {
        let depth = weight[0] / op.groups.max(1) * weight[2] * weight[3];
        Case::new(op, [fill.clone().shape(x), fill.shape(weight)]).product(depth).constant([1])
    };
    let floats = || Fill::uniform(-1.0, 1.0);
    let conv = ConvTranspose2d::default;
    let mut cases: Vec<Case> = [
        (conv().stride(2), [2, 5, 6, 4], [4, 3, 2, 2]),
        (conv().stride(2).padding(1), [2, 5, 6, 4], [4, 3, 4, 4]),
        (conv().stride(2).padding(1).output_padding(1), [2, 5, 6, 4], [4, 8, 3, 3]),
        (conv().padding(1), [2, 7, 7, 4], [4, 3, 3, 3]),
        (conv().dilation(2), [2, 7, 5, 4], [4, 4, 3, 3]),
        (conv().stride(2).padding(1).output_padding(1).groups(2), [2, 6, 6, 4], [4, 3, 3, 3]),
        (conv().stride(2).padding(1).output_padding(1).groups(4), [2, 6, 5, 4], [4, 1, 3, 3]),
        (conv().stride(3).padding(2).output_padding(2), [2, 4, 5, 4], [4, 3, 5, 5]),
        (
            ConvTranspose2d { stride: [2, 1], padding: [1, 0], output_padding: [1, 0], ..conv() },
            [2, 5, 5, 4],
            [4, 3, 3, 4],
        ),
        (conv().stride(4).padding(3).output_padding(3), [2, 3, 3, 3], [3, 2, 7, 7]),
        // Taps that reach no output of some phases.
        (conv().stride(2).output_padding(1), [2, 4, 4, 3], [3, 2, 1, 1]),
        (conv().stride(3).dilation(3), [2, 4, 4, 3], [3, 2, 3, 3]),
        (conv().stride(4).dilation(6).output_padding(3), [1, 3, 2, 4], [4, 4, 3, 3]),
        (conv().stride(3).dilation(2), [1, 3, 4, 8], [8, 4, 3, 2]),
        (conv().stride(2).padding(1), [2, 3, 4, 17], [17, 33, 4, 4]),
        (conv().stride(2).padding(1), [1, 7, 5, 32], [32, 16, 4, 4]),
        (conv(), [1, 1, 1, 1], [1, 1, 1, 1]),
    ]
    .into_iter()
    .map(|(op, x, weight)| case(op, x, weight, floats()))
    .collect();
    cases.push(case(conv().stride(2).padding(1), [1, 5, 4, 16], [16, 20, 4, 4], Fill::integers(-4, 4)));
    cases.push(case(conv().stride(2), [1, 5, 4, 0], [0, 4, 2, 2], Fill::integers(-4, 4)));
    cases.push(case(conv().stride(2), [0, 5, 4, 4], [4, 4, 2, 2], Fill::integers(-4, 4)));
    let computed = [floats().shape([1, 4, 5, 4]), floats().shape([4, 8, 3, 3])];
    cases.push(Case::new(conv().stride(2).padding(1), computed).product(36));
    let inputs = [vec![2, 3, 4, 8], vec![8, 12, 4, 4], vec![12], vec![2, 1, 1, 12], vec![2, 6, 8, 12]]
        .map(|shape| floats().shape(shape));
    let epilogue = conv2d::epilogue(48, 12);
    cases.push(Case::new(conv().stride(2).padding(1), inputs).constant([1]).epilogue(epilogue));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn infer(op: ConvTranspose2d, x: [usize; 4], weight: [usize; 4]) -> Result<Vec<usize>, OpError> {
        let desc = |shape: [usize; 4]| TensorDesc::new(shape, DType::F32);
        op.infer(&[desc(x), desc(weight)]).map(|mut out| out.swap_remove(0).shape)
    }

    #[test]
    fn extents_follow_the_options() {
        let conv = ConvTranspose2d::default();
        assert_eq!(infer(conv.stride(2).padding(1), [2, 5, 6, 4], [4, 3, 4, 4]), Ok(vec![2, 10, 12, 3]));
        let op = conv.stride(3).padding(2).output_padding(2);
        assert_eq!(infer(op, [2, 4, 5, 4], [4, 3, 5, 5]), Ok(vec![2, 12, 15, 3]));
        assert_eq!(infer(conv.groups(2), [2, 4, 5, 4], [4, 3, 1, 1]), Ok(vec![2, 4, 5, 6]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let conv = ConvTranspose2d::default();
        for (op, x, weight) in [
            (conv, [1, 5, 5, 3], [4, 3, 3, 3]),
            (conv.output_padding(1), [1, 5, 5, 4], [4, 3, 3, 3]),
            (conv.padding(4), [1, 5, 5, 4], [4, 3, 3, 3]),
            (conv.padding(usize::MAX), [1, 5, 5, 4], [4, 3, 3, 3]),
            (conv.stride(usize::MAX), [1, 5, 5, 4], [4, 3, 3, 3]),
            (conv.stride(0), [1, 5, 5, 4], [4, 3, 3, 3]),
            (conv.groups(3), [1, 5, 5, 4], [4, 3, 3, 3]),
            (conv, [1, 0, 5, 4], [4, 3, 3, 3]),
        ] {
            assert!(infer(op, x, weight).is_err(), "{op:?} {x:?} {weight:?}");
        }
    }

    #[test]
    fn inputs_are_spread_by_the_stride() {
        let x = Tensor::f32([1, 1, 2, 1], vec![1., 2.]).unwrap();
        let weight = Tensor::f32([1, 1, 1, 3], vec![10., 20., 30.]).unwrap();
        let op = ConvTranspose2d { stride: [1, 2], ..Default::default() };
        let y = op.reference(&[&x, &weight]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[10., 20., 50., 40., 60.][..]));
    }

    #[test]
    fn phases_hold_each_meeting_of_tap_and_input_once() {
        for (stride, dilation, padding, kernel) in
            [(1, 1, 0, 3), (2, 1, 1, 4), (3, 2, 1, 5), (4, 6, 2, 3), (6, 4, 5, 4), (3, 3, 0, 3), (5, 1, 2, 2)]
        {
            let op = ConvTranspose2d::default().stride(stride).dilation(dilation).padding(padding);
            let (input, out) = (9, 40);
            let mut found = Vec::new();
            for axis in op.phases(0, out, kernel) {
                for i in 0..axis.count {
                    for t in 0..axis.taps {
                        let from = axis.base + i as i32 * axis.stride + t as i32 * axis.dilation;
                        if (0..input).contains(&from) {
                            found.push((
                                axis.first + i * axis.step,
                                axis.tap_first + t * axis.tap_step,
                                from,
                            ));
                        }
                    }
                }
            }
            found.sort_unstable();
            let mut wanted = Vec::new();
            for o in 0..out {
                for t in 0..kernel {
                    let at = (o + padding) as i64 - (t * dilation) as i64;
                    if at >= 0 && at % stride as i64 == 0 && at / (stride as i64) < i64::from(input) {
                        wanted.push((o, t, (at / stride as i64) as i32));
                    }
                }
            }
            assert_eq!(found, wanted, "{op:?}");
        }
    }
}
