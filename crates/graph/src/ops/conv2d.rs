//! Two-dimensional convolution.

use crate::ops::Binary;
use crate::ops::conv::{self, Axis, Padding, Plan, forward_extent, sums};
use crate::registry::{Case, Fill};
use crate::{
    Builder, Epilogue, GraphError, Independence, Io, Launch, Op, OpError, Spread, Step, Tensor, TensorDesc,
    Tier, Value,
};

/// Cross-correlation of images `[batch, height, width, channels]` with a weight `[out, in / groups, kh, kw]`, as
/// PyTorch's `conv2d` on NCHW images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Input pixels between neighbouring outputs: (vertical, horizontal).
    pub stride: [usize; 2],
    /// Input pixels between neighbouring taps.
    pub dilation: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Groups of channels that do not see each other; as many as input channels make a depthwise convolution.
    pub groups: usize,
    /// 2 where the input is first made twice as high and wide by repeating pixels (nearest neighbour), else 1.
    /// Strides, dilation and padding count pixels of the enlarged input.
    pub upsample: usize,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: [1; 2], dilation: [1; 2], padding: Padding::from(0), groups: 1, upsample: 1 }
    }
}

impl Conv2d {
    /// The same with this stride along both axes.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// The same with this dilation along both axes.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation: [dilation; 2], ..self }
    }

    /// The same with this padding.
    pub fn padding(self, padding: impl Into<Padding>) -> Self {
        Self { padding: padding.into(), ..self }
    }

    /// The same with so many groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The same on an enlarged input.
    pub fn upsample(self, upsample: usize) -> Self {
        Self { upsample, ..self }
    }

    pub(super) fn plan(&self, inputs: &[TensorDesc]) -> Result<Plan, OpError> {
        let wrong = |reason: String| OpError::new("conv2d", inputs, reason);
        let channels = conv::check("conv2d", inputs, 4, self.groups, false)?;
        let (x, weight) = (&inputs[0].shape, &inputs[1].shape);
        if !matches!(self.upsample, 1 | 2) {
            return Err(wrong("upsampling is by 1 or 2".into()));
        }
        let axis = |axis: usize| {
            let sides = match self.padding {
                Padding::Explicit(sides) => Some([sides[2 * axis], sides[2 * axis + 1]]),
                Padding::Same => None,
            };
            let (input, kernel) = (x[1 + axis] * self.upsample, weight[2 + axis]);
            let (stride, dilation) = (self.stride[axis], self.dilation[axis]);
            let (count, before) = forward_extent(input, kernel, stride, dilation, sides)?;
            Ok(Axis::forward(count, kernel, stride, dilation, before))
        };
        let (h, w) = (axis(0).map_err(wrong)?, axis(1).map_err(wrong)?);
        Ok(Plan {
            op: "conv2d",
            batch: x[0],
            input: [x[1], x[2]],
            output: [h.count, w.count],
            cin: channels.cin,
            cout: channels.cout,
            groups: self.groups,
            kernel: [weight[2], weight[3]],
            transposed: false,
            upsample: self.upsample,
            phases: vec![[h, w]],
        })
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
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
        let [[h, w]] = plan.phases[..] else {
            return Err(OpError::new("conv2d", &descs, "an ordinary convolution has one phase"));
        };
        let [row, column] = [(h, plan.input[0]), (w, plan.input[1])].map(|(axis, extent)| {
            move |out: usize, tap: usize| {
                let at = i64::from(axis.base) + out as i64 * i64::from(axis.stride);
                let at = at + tap as i64 * i64::from(axis.dilation);
                let at = usize::try_from(at).ok()? / self.upsample;
                (at < extent).then_some(at)
            }
        });
        sums::reference(&plan, inputs[0], inputs[1], out, row, column)
    }

    fn independence(&self, io: &Io) -> Independence {
        conv::independence(io, self.groups, 0)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        self.plan(&io.inputs[..2])?.launches(io, tier)
    }

    /// Like the derived form, without what is at its default.
    fn attributes(&self) -> String {
        let [[sh, sw], [dh, dw]] = [self.stride, self.dilation];
        let mut text = format!("Conv2d{{stride:{sh}x{sw},padding:{:?}", self.padding);
        if self.dilation != [1; 2] {
            text += &format!(",dilation:{dh}x{dw}");
        }
        if self.groups != 1 {
            text += &format!(",groups:{}", self.groups);
        }
        if self.upsample != 1 {
            text += &format!(",upsample:{}", self.upsample);
        }
        text + "}"
    }

    fn flops(&self, io: &Io) -> u64 {
        self.plan(&io.inputs[..2]).map_or(0, |plan| plan.flops())
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// A convolution of `x` `[batch, height, width, channels]` with `weight` `[out, in / groups, kh, kw]` and, where
    /// there is one, `bias` `[out]`.
    pub fn conv2d(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
        options: Conv2d,
    ) -> Result<Value, GraphError> {
        let y = self.op(options, &[x, weight])?;
        match bias {
            Some(bias) => self.binary(Binary::Add, y, bias),
            None => Ok(y),
        }
    }
}

/// An epilogue with everything a convolution's meets: a bias, an activation, an image's channel vector, a residual.
pub(super) fn epilogue(pixels: usize, channels: usize) -> Epilogue {
    let step = |operand, spread| Step::Binary { function: Binary::Add, operand, spread, swapped: false };
    Epilogue {
        steps: vec![
            step(0, Spread::Last),
            Step::Unary(crate::ops::Unary::Silu),
            step(1, Spread::Batch { inner: pixels * channels }),
            step(2, Spread::Full),
        ],
    }
}

/// Cases: every option alone and together, odd extents, small and deep products, epilogues.
pub fn cases() -> Vec<Case> {
    let case = |op: Conv2d, x: [usize; 4], weight: [usize; 4], fill: Fill| {
        let depth = weight[1] * weight[2] * weight[3];
        Case::new(op, [fill.clone().shape(x), fill.shape(weight)]).product(depth)
    };
    let floats = || Fill::uniform(-1.0, 1.0);
    let integers = || Fill::integers(-4, 4);
    let conv = Conv2d::default;
    let mut cases = Vec::new();
    for (op, x, weight) in [
        // 1x1: a product over pixels, and with a stride.
        (conv(), [2, 7, 9, 3], [8, 3, 1, 1]),
        (conv(), [1, 5, 7, 64], [33, 64, 1, 1]),
        (conv().stride(2), [1, 9, 7, 8], [5, 8, 1, 1]),
        // 3x3, and what models make of it.
        (conv().padding(1), [2, 8, 8, 4], [6, 4, 3, 3]),
        (conv(), [1, 9, 11, 4], [6, 4, 3, 3]),
        (conv().padding(1).stride(2), [1, 9, 10, 4], [8, 4, 3, 3]),
        (conv().padding([0, 1, 0, 1]).stride(2), [1, 8, 8, 8], [8, 8, 3, 3]),
        (conv().padding(1), [1, 6, 5, 33], [65, 33, 3, 3]),
        (conv().padding(1), [1, 7, 5, 16], [64, 16, 3, 3]),
        (conv().padding(1), [2, 9, 15, 8], [16, 8, 3, 3]),
        (conv().padding(1), [1, 4, 4, 32], [72, 32, 3, 3]),
        (conv().padding(Padding::Same), [1, 8, 9, 4], [4, 4, 3, 3]),
        // Stems and patch embeddings.
        (conv().padding(3).stride(2), [1, 21, 19, 3], [8, 3, 7, 7]),
        (conv().stride(4), [1, 18, 17, 3], [12, 3, 4, 4]),
        (conv().stride(16), [1, 32, 33, 3], [16, 3, 16, 16]),
        // Dilation.
        (conv().padding(2).dilation(2), [1, 12, 11, 4], [4, 4, 3, 3]),
        (conv().padding(12).dilation(12), [1, 9, 13, 4], [4, 4, 3, 3]),
        (conv().padding(3).dilation(3).stride(2), [1, 15, 14, 4], [4, 4, 3, 3]),
        // Groups and depthwise.
        (conv().padding(1).groups(8), [2, 9, 9, 8], [8, 1, 3, 3]),
        (conv().padding(1).groups(8).stride(2), [1, 9, 9, 8], [16, 1, 3, 3]),
        (conv().padding(1).groups(7), [1, 6, 5, 7], [7, 1, 3, 3]),
        (conv().padding(1).groups(4), [1, 7, 7, 8], [12, 2, 3, 3]),
        (conv().padding(1).groups(2), [1, 7, 6, 16], [24, 8, 3, 3]),
        (conv().groups(3), [1, 5, 5, 6], [9, 2, 1, 1]),
        // Kernels that are not square, options that differ along the axes.
        (conv().padding([0, 3]), [1, 9, 12, 4], [6, 4, 1, 7]),
        (
            Conv2d {
                stride: [2, 1],
                dilation: [1, 2],
                padding: Padding::from([1, 2]),
                groups: 2,
                upsample: 1,
            },
            [2, 13, 14, 4],
            [6, 2, 3, 5],
        ),
        (conv().padding([2, 0, 1, 3]), [1, 4, 6, 5], [3, 5, 2, 4]),
        // Even kernels with `same`.
        (conv().padding(Padding::Same).dilation(3), [1, 9, 8, 3], [4, 3, 4, 4]),
        // Upsampling folded into the addresses.
        (conv().padding(1).upsample(2), [1, 5, 4, 8], [8, 8, 3, 3]),
        (conv().padding([0, 1, 1, 0]).upsample(2).stride(3), [2, 3, 5, 3], [5, 3, 2, 3]),
        // One pixel, one row.
        (conv().padding(1), [1, 1, 1, 1], [1, 1, 3, 3]),
        (conv().padding(1), [1, 1, 17, 4], [4, 4, 3, 3]),
    ] {
        cases.push(case(op, x, weight, floats()).constant([1]));
    }
    for (op, x, weight) in [
        (conv().padding(1), [1, 7, 6, 12], [20, 12, 3, 3]),
        (conv().padding(1), [1, 3, 3, 0], [4, 0, 3, 3]),
        (conv().padding(1), [0, 3, 3, 4], [4, 4, 3, 3]),
        (conv().padding(1), [1, 3, 3, 4], [0, 4, 3, 3]),
    ] {
        cases.push(case(op, x, weight, integers()).constant([1]));
    }
    // Weights that are computed.
    for (op, x, weight) in [
        (conv().padding(1), [1, 5, 6, 8], [8, 8, 3, 3]),
        (conv().padding(1).groups(4), [1, 5, 6, 4], [4, 1, 3, 3]),
    ] {
        cases.push(case(op, x, weight, floats()));
    }
    for (op, x, weight, out) in [
        (conv().padding(1), [2, 5, 6, 8], [12, 8, 3, 3], [2, 5, 6, 12]),
        (conv(), [2, 3, 5, 16], [7, 16, 1, 1], [2, 3, 5, 7]),
        (conv().padding(1).groups(8), [2, 4, 5, 8], [8, 1, 3, 3], [2, 4, 5, 8]),
    ] {
        let [b, h, w, c] = out;
        let inputs = [
            floats().shape(x),
            floats().shape(weight),
            floats().shape([c]),
            floats().shape([b, 1, 1, c]),
            floats().shape(out),
        ];
        cases.push(Case::new(op, inputs).constant([1, 2]).epilogue(epilogue(h * w, c)));
    }
    // The same again at sizes around the tiles, in the long run.
    for (x, cout) in [([1, 31, 33, 64], 63), ([1, 17, 16, 128], 129), ([2, 8, 9, 255], 257)] {
        for kernel in [1, 3, 5] {
            let op = conv().padding(Padding::Same);
            cases.push(case(op, x, [cout, x[3], kernel, kernel], floats()).constant([1]).full());
            cases.push(case(op, x, [cout, x[3], kernel, kernel], integers()).constant([1]).full());
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn infer(op: Conv2d, x: [usize; 4], weight: [usize; 4]) -> Result<Vec<usize>, OpError> {
        let desc = |shape: [usize; 4]| TensorDesc::new(shape, DType::F32);
        op.infer(&[desc(x), desc(weight)]).map(|mut out| out.swap_remove(0).shape)
    }

    #[test]
    fn extents_follow_the_options() {
        let conv = Conv2d::default();
        assert_eq!(infer(conv.padding(3).stride(2), [1, 33, 31, 3], [8, 3, 7, 7]), Ok(vec![1, 17, 16, 8]));
        assert_eq!(infer(conv.padding(2).stride(4), [1, 35, 35, 3], [4, 3, 11, 11]), Ok(vec![1, 8, 8, 4]));
        assert_eq!(infer(conv.padding(Padding::Same), [1, 9, 8, 3], [4, 3, 4, 4]), Ok(vec![1, 9, 8, 4]));
        assert_eq!(infer(conv.padding(1).upsample(2), [1, 9, 8, 3], [4, 3, 3, 3]), Ok(vec![1, 18, 16, 4]));
        assert_eq!(
            infer(conv.padding([0, 1, 0, 1]).stride(2), [1, 8, 8, 3], [4, 3, 3, 3]),
            Ok(vec![1, 4, 4, 4])
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let conv = Conv2d::default();
        for (op, x, weight) in [
            (conv, [1, 9, 9, 3], [4, 4, 3, 3]),
            (conv, [1, 2, 9, 3], [4, 3, 3, 3]),
            (conv.groups(0), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv.groups(2), [1, 9, 9, 4], [3, 2, 3, 3]),
            (conv.stride(0), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv.dilation(0), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv.upsample(3), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv.padding(Padding::Same).stride(2), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv, [1, 9, 9, 3], [4, 3, 0, 3]),
            (conv.padding(usize::MAX), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv.dilation(usize::MAX), [1, 9, 9, 3], [4, 3, 3, 3]),
            (conv.groups(usize::MAX), [1, 9, 9, 3], [4, 3, 3, 3]),
        ] {
            assert!(infer(op, x, weight).is_err(), "{op:?} {x:?} {weight:?}");
        }
        let three = TensorDesc::new([1, 9, 3], DType::F32);
        assert!(conv.infer(&[three.clone(), three]).is_err());
    }

    #[test]
    fn sums_over_the_window() {
        // A 3x3 image of 1..9 under a 2x2 kernel of ones, one zero at the right and at the bottom.
        let x = Tensor::f32([1, 3, 3, 1], (1..10).map(|v| v as f32).collect()).unwrap();
        let weight = Tensor::f32([1, 1, 2, 2], vec![1.0; 4]).unwrap();
        let y = Conv2d::default().padding(Padding::Same).reference(&[&x, &weight]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[12., 16., 9., 24., 28., 15., 15., 17., 9.][..]));
    }

    #[test]
    fn upsampling_is_that_of_the_enlarged_image() {
        let x = Tensor::f32([1, 2, 3, 2], (0..12).map(|v| v as f32).collect()).unwrap();
        let at = |h: usize, w: usize, c: usize| Some((h / 2 * 3 + w / 2) * 2 + c);
        let large = (0..4 * 6 * 2).map(|i| at(i / 12, i / 2 % 6, i % 2));
        let large = x.pick([1, 4, 6, 2], large).unwrap();
        let weight = Tensor::f32([3, 2, 3, 3], (0..54).map(|v| (v % 7) as f32).collect()).unwrap();
        let conv = Conv2d::default().padding(1);
        let folded = conv.upsample(2).reference(&[&x, &weight]).unwrap();
        assert_eq!(folded, conv.reference(&[&large, &weight]).unwrap());
    }
}
