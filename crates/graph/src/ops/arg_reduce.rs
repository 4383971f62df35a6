//! Index of the largest or smallest element along an axis.

use kiln_shaders as shaders;

use crate::ops::lines::{Lines, compare, order, workgroup_for};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// Index (i32) of the largest or smallest element along an axis: of equals the first, and the first NaN before all
/// numbers, as PyTorch on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgReduce {
    /// The axis.
    pub axis: usize,
    /// Whether the axis stays, with extent 1.
    pub keepdim: bool,
    /// Whether the smallest is wanted.
    pub smallest: bool,
}

params! {
    struct ArgParams { lines: u32, len: u32, inner: u32 }
}

impl ArgReduce {
    fn lines(&self, inputs: &[TensorDesc]) -> Result<Lines, OpError> {
        let wrong = |reason: &str| OpError::new("arg_reduce", inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input")) };
        let lines = Lines::along(&x.shape, self.axis).ok_or_else(|| wrong("there is no such axis"))?;
        if lines.len == 0 && lines.count() > 0 {
            return Err(wrong("has no elements along the axis"));
        }
        Ok(lines)
    }
}

impl Op for ArgReduce {
    fn name(&self) -> &'static str {
        "arg_reduce"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        self.lines(inputs)?;
        let mut shape = inputs[0].shape.clone();
        if self.keepdim {
            shape[self.axis] = 1;
        } else {
            shape.remove(self.axis);
        }
        Ok(vec![TensorDesc::new(shape, DType::I32)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = [inputs[0].desc()];
        let (lines, out) = (self.lines(&x)?, self.infer(&x)?.swap_remove(0));
        let values = inputs[0].to_f64();
        let best = |line: usize| {
            let at = |i: usize| values[lines.start(line) + i * lines.inner];
            (1..lines.len).fold(0, |best, i| {
                let (old, new) = (at(best), at(i));
                let better = match (old.is_nan(), self.smallest) {
                    (true, _) => false,
                    (false, true) => new.is_nan() || new < old,
                    (false, false) => compare(new, old).is_gt(),
                };
                if better { i } else { best }
            }) as i32
        };
        Ok(vec![Tensor::i32(out.shape, (0..lines.count()).map(best).collect())?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let kept = (0..io.inputs[0].rank()).filter(|&axis| axis != self.axis);
        let behind = |axis: usize| usize::from(!self.keepdim && axis > self.axis);
        Independence::Axes(kept.map(|axis| Along::new([Some(axis)], [Some(axis - behind(axis))])).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let lines = self.lines(&io.inputs[..1])?;
        let params = ArgParams {
            lines: lines.count() as u32,
            len: lines.len as u32,
            inner: lines.inner as u32,
            ..Default::default()
        };
        let launch = |name, file, workgroup: u32, groups: usize| {
            let units = [units::elem(x.dtype), order(x.dtype), shaders::GRID, file];
            let kernel = Kernel::new(units).set("WORKGROUP", workgroup).set("SMALLEST", self.smallest.into());
            let dispatch = Dispatch::new(kernel, params, groups as u64)
                .bind("x", Source::Input(0))
                .bind("y", Source::Output(0));
            Launch::one(name, dispatch)
        };
        let lanes = 64.min(tier.limits.max_invocations);
        let lane = launch("lane", shaders::ARG_REDUCE_LANE, lanes, lines.count().div_ceil(lanes as usize));
        let wide = workgroup_for(lines.len, tier);
        let workgroup = launch("workgroup", shaders::ARG_REDUCE_WORKGROUP, wide, lines.count());
        Ok(units::alone_or_shared(lane, workgroup, lines.len, !lines.want_workgroups(tier)))
    }

    fn flops(&self, io: &Io) -> u64 {
        io.inputs.first().map_or(0, |x| x.len() as u64)
    }
}

impl Builder {
    /// Index of the largest element along an axis, which is dropped.
    pub fn argmax(&mut self, x: Value, axis: usize) -> Result<Value, GraphError> {
        self.op(ArgReduce { axis, keepdim: false, smallest: false }, &[x])
    }

    /// Index of the smallest element along an axis, which is dropped.
    pub fn argmin(&mut self, x: Value, axis: usize) -> Result<Value, GraphError> {
        self.op(ArgReduce { axis, keepdim: false, smallest: true }, &[x])
    }
}

/// Cases: each axis, ties, both zeros, infinities, every type.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for smallest in [false, true] {
        let case = |axis, fill: Fill| Case::new(ArgReduce { axis, keepdim: axis == 0, smallest }, [fill]);
        let float = |shape: &[usize]| Fill::uniform(-9.0, 9.0).shape(shape);
        cases.extend([
            case(0, float(&[1])),
            case(1, float(&[3, 5])),
            case(1, float(&[2, 3, 7])),
            case(0, float(&[33, 65])),
            case(1, float(&[3, 1025])),
            // Longer than one invocation's loop may be.
            case(1, float(&[1, 65537])),
            case(1, float(&[0, 4])),
            // Ties: the first counts.
            case(1, Fill::integers(-2, 2).shape([5, 129])),
            case(0, Fill::given(DType::F32, [-0.0, 0.0, -0.0, 0.0]).shape([4])),
            case(1, Fill::given(DType::F32, [0.0, -1.0, -1.0, 2.0, 2.0]).shape([3, 5])),
        ]);
        for dtype in [DType::I32, DType::U32, DType::Bool] {
            let (low, high) = match dtype {
                DType::I32 => (-1 << 20, 1 << 20),
                DType::U32 => (0, 1 << 20),
                _ => (0, 1),
            };
            cases.push(case(1, Fill::typed(dtype, low, high).shape([4, 77])).f32_only());
        }
        let extremes = [i32::MIN, i32::MAX, 0, -1, i32::MAX].map(f64::from);
        cases.push(case(1, Fill::given(DType::I32, extremes).shape([2, 5])).f32_only());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(smallest: bool, values: &[f32]) -> i32 {
        let x = Tensor::f32([values.len()], values.to_vec()).unwrap();
        let y = ArgReduce { axis: 0, keepdim: false, smallest }.reference(&[&x]).unwrap();
        y[0].as_i32().unwrap()[0]
    }

    #[test]
    fn the_first_of_equals_and_nan_before_all() {
        assert_eq!((arg(false, &[1., 3., 3.]), arg(true, &[1., 0., 0.])), (1, 1));
        assert_eq!(arg(false, &[0.0, -0.0]), 0);
        for smallest in [false, true] {
            assert_eq!(arg(smallest, &[1., f32::NAN, 9., f32::NAN, -9.]), 1);
        }
    }

    #[test]
    fn shapes_follow_keepdim() {
        let x = [TensorDesc::new([2, 3], DType::F32)];
        let infer = |axis, keepdim| ArgReduce { axis, keepdim, smallest: false }.infer(&x);
        assert_eq!(infer(0, true).unwrap()[0], TensorDesc::new([1, 3], DType::I32));
        assert_eq!(infer(1, false).unwrap()[0].shape, [2]);
        assert!(infer(2, false).is_err());
        let none = [TensorDesc::new([2, 0], DType::F32)];
        assert!(ArgReduce { axis: 1, keepdim: false, smallest: false }.infer(&none).is_err());
    }
}
