//! Running sums.

use kiln_shaders as shaders;

use crate::ops::lines::{Lines, workgroup_for};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// Sums of the elements along an axis up to each, itself included. Floats are summed in f32 whatever their type; sums of
/// integers wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cumsum {
    /// The axis.
    pub axis: usize,
}

params! {
    struct CumsumParams { lines: u32, len: u32, inner: u32 }
}

impl Cumsum {
    fn lines(&self, inputs: &[TensorDesc]) -> Result<Lines, OpError> {
        let wrong = |reason: &str| OpError::new("cumsum", inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input")) };
        if x.dtype == DType::Bool {
            return Err(wrong("wants numbers"));
        }
        Lines::along(&x.shape, self.axis).ok_or_else(|| wrong("there is no such axis"))
    }
}

impl Op for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        self.lines(inputs)?;
        Ok(vec![inputs[0].clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0].desc();
        let lines = self.lines(std::slice::from_ref(&x))?;
        let mut values = inputs[0].to_f64();
        for line in 0..lines.count() {
            let (mut at, mut sum) = (lines.start(line), 0.0);
            for _ in 0..lines.len {
                sum += values[at];
                values[at] = match x.dtype {
                    // Wrapped to 32 bits, as devices add integers.
                    DType::I32 => f64::from(sum as i64 as i32),
                    DType::U32 => f64::from(sum as i64 as u32),
                    _ => sum,
                };
                at += lines.inner;
            }
        }
        Ok(vec![Tensor::from_f64(x.shape, x.dtype, &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[self.axis])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let lines = self.lines(&io.inputs[..1])?;
        let params = CumsumParams {
            lines: lines.count() as u32,
            len: lines.len as u32,
            inner: lines.inner as u32,
            ..Default::default()
        };
        let sum = if x.dtype.is_float() { shaders::SUM_FLOAT } else { shaders::SUM_INTEGER };
        let launch = |name, file, workgroup: u32, groups: usize| {
            let units = [units::elem(x.dtype), sum.clone(), shaders::GRID, file];
            let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
            let dispatch = Dispatch::new(kernel, params, groups as u64)
                .bind("x", Source::Input(0))
                .bind("y", Source::Output(0));
            Launch::one(name, dispatch)
        };
        let lanes = 64.min(tier.limits.max_invocations);
        let lane = launch("lane", shaders::CUMSUM_LANE, lanes, lines.count().div_ceil(lanes as usize));
        let wide = workgroup_for(lines.len, tier);
        let workgroup = launch("workgroup", shaders::CUMSUM_WORKGROUP, wide, lines.count());
        Ok(units::alone_or_shared(lane, workgroup, units::with_runs(lines.len), !lines.want_workgroups(tier)))
    }
}

impl Builder {
    /// Running sums along an axis.
    pub fn cumsum(&mut self, x: Value, axis: usize) -> Result<Value, GraphError> {
        self.op(Cumsum { axis }, &[x])
    }
}

/// Cases: each axis, lengths around the runs, integers.
pub fn cases() -> Vec<Case> {
    let case = |axis, shape: &[usize]| Case::new(Cumsum { axis }, [Fill::uniform(-1.0, 1.0).shape(shape)]);
    let mut cases = vec![
        case(0, &[0]),
        case(0, &[1]),
        case(1, &[3, 5]),
        case(1, &[2, 3, 7]),
        case(0, &[65, 3]),
        case(1, &[2, 127, 3]),
        // Sums that wander over many elements round with their size, not with their elements'.
        case(1, &[1, 1025]),
        case(1, &[3, 257]),
        case(0, &[33, 65]),
    ];
    // Longer than one invocation's loop may be; whole numbers, whose sums f32 holds.
    let long = Fill::integers(-1, 1).shape([1, 65537]);
    cases.push(Case::new(Cumsum { axis: 1 }, [long]).exact());
    for dtype in [DType::I32, DType::U32] {
        let fill = Fill::typed(dtype, 0, 1 << 24).shape([2, 600]);
        cases.push(Case::new(Cumsum { axis: 1 }, [fill]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_along_the_axis() {
        let x = Tensor::f32([2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let y = Cumsum { axis: 1 }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[1., 3., 6., 4., 9., 15.][..]));
        let y = Cumsum { axis: 0 }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[1., 2., 3., 5., 7., 9.][..]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Cumsum { axis: 1 }.infer(&[TensorDesc::new([3], DType::F32)]).is_err());
        assert!(Cumsum { axis: 0 }.infer(&[TensorDesc::new([3], DType::Bool)]).is_err());
    }
}
