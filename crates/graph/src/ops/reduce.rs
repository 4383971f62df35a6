//! Sums, means, extremes and their like over axes.

use kiln_shaders as shaders;
use rayon::prelude::*;

use crate::ops::lines::workgroup_for;
use crate::ops::strided::{Axis, Walk};
use crate::ops::units::{self, with_runs};
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// What becomes of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// Their product.
    Prod,
    /// The largest; NaN where one is.
    Max,
    /// The smallest; NaN where one is.
    Min,
    /// Sum of squared distances from the mean over (number - correction): 0 gives the biased variance, 1 the unbiased.
    Var {
        /// Subtracted from the number of elements.
        correction: usize,
    },
    /// Square root of that.
    Std {
        /// Subtracted from the number of elements.
        correction: usize,
    },
    /// Logarithm of the sum of exponentials.
    LogSumExp,
}

impl Reduction {
    /// The kernel's number for it.
    fn kind(self) -> u32 {
        match self {
            Reduction::Sum => 0,
            Reduction::Mean => 1,
            Reduction::Prod => 2,
            Reduction::Max => 3,
            Reduction::Min => 4,
            Reduction::Var { .. } => 5,
            Reduction::Std { .. } => 6,
            Reduction::LogSumExp => 7,
        }
    }

    /// How often the kernels go through the elements.
    fn passes(self) -> usize {
        match self {
            Reduction::Var { .. } | Reduction::Std { .. } | Reduction::LogSumExp => 2,
            _ => 1,
        }
    }

    fn correction(self) -> usize {
        match self {
            Reduction::Var { correction } | Reduction::Std { correction } => correction,
            _ => 0,
        }
    }

    /// Of so many values, in f64.
    fn apply(self, values: impl Iterator<Item = f64> + Clone, count: usize) -> f64 {
        let extreme = |better: fn(f64, f64) -> bool| {
            values.clone().fold(None, |best: Option<f64>, v| match best {
                Some(b) if b.is_nan() || !(v.is_nan() || better(v, b)) => Some(b),
                _ => Some(v),
            })
        };
        match self {
            Reduction::Sum => values.sum(),
            Reduction::Mean => values.sum::<f64>() / count as f64,
            Reduction::Prod => values.product(),
            Reduction::Max => extreme(|v, b| v > b).unwrap_or(f64::NEG_INFINITY),
            Reduction::Min => extreme(|v, b| v < b).unwrap_or(f64::INFINITY),
            Reduction::Var { correction } => {
                let mean = values.clone().sum::<f64>() / count as f64;
                values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / (count as f64 - correction as f64)
            }
            Reduction::Std { correction } => Reduction::Var { correction }.apply(values, count).sqrt(),
            Reduction::LogSumExp => {
                let largest = Reduction::Max.apply(values.clone(), count);
                let centre = if largest.is_infinite() { 0.0 } else { largest };
                centre + values.map(|v| (v - centre).exp()).sum::<f64>().ln()
            }
        }
    }
}

/// Elements over some axes made one number. Computed in f32 and rounded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What becomes of them.
    pub reduction: Reduction,
    /// The axes, each once, in any order.
    pub axes: Vec<usize>,
    /// Whether the axes stay, with extent 1.
    pub keepdim: bool,
}

params! {
    struct ReduceParams {
        outputs: u32, count: u32, correction: f32, pad0: u32, pad1: u32, pad2: u32,
        kept0: [u32; 4], kept1: [u32; 4], kept2: [u32; 4], kept3: [u32; 4],
        reduced0: [u32; 4], reduced1: [u32; 4], reduced2: [u32; 4], reduced3: [u32; 4],
    }
}

/// Which elements go where.
struct Plan {
    /// The outputs' first elements, axes merged.
    kept: Walk,
    /// An output's elements behind its first.
    reduced: Walk,
    out: Vec<usize>,
}

impl Reduce {
    fn plan(&self, inputs: &[TensorDesc]) -> Result<Plan, OpError> {
        let wrong = |reason: String| OpError::new("reduce", inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input".into())) };
        if !x.dtype.is_float() {
            return Err(wrong("wants a floating-point input".into()));
        }
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != self.axes.len() || sorted.last().is_some_and(|&axis| axis >= x.rank()) {
            return Err(wrong(format!("{:?} are not axes of the input, each once", self.axes)));
        }
        let strides = x.strides();
        let (mut kept, mut reduced, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, (&extent, &stride)) in x.shape.iter().zip(&strides).enumerate() {
            let walked = Axis { extent, from: stride as isize, to: stride as isize };
            if sorted.binary_search(&axis).is_err() {
                kept.push(walked);
                out.push(extent);
            } else {
                reduced.push(walked);
                if self.keepdim {
                    out.push(1);
                }
            }
        }
        let [kept, reduced] = [kept, reduced].map(|axes| Walk { axes, from: 0, to: 0 }.merged());
        if kept.axes.len() > 4 || reduced.axes.len() > 4 {
            return Err(wrong("has more than four separate groups of axes that stay or go".into()));
        }
        let count = reduced.len();
        if kept.len() > 0 {
            let correction = self.reduction.correction();
            if correction > 0 && count <= correction {
                return Err(wrong(format!("{count} elements have no variance with correction {correction}")));
            }
            if count == 0 && !matches!(self.reduction, Reduction::Sum | Reduction::Prod) {
                return Err(wrong("has no elements to reduce".into()));
            }
        }
        Ok(Plan { kept, reduced, out })
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let plan = self.plan(inputs)?;
        Ok(vec![TensorDesc::new(plan.out, inputs[0].dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0].desc();
        let plan = self.plan(std::slice::from_ref(&x))?;
        let values = inputs[0].to_f64();
        let starts: Vec<usize> = plan.kept.sources().flatten().collect();
        let places: Vec<usize> = plan.reduced.sources().flatten().collect();
        let reduced = |&start: &usize| {
            self.reduction.apply(places.iter().map(|&place| values[start + place]), places.len())
        };
        let results: Vec<f64> = starts.par_iter().map(reduced).collect();
        Ok(vec![Tensor::from_f64(plan.out, x.dtype, &results)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let kept = (0..io.inputs[0].rank()).filter(|axis| !self.axes.contains(axis));
        let gone = |axis: usize| self.axes.iter().filter(|&&gone| !self.keepdim && gone < axis).count();
        Independence::Axes(kept.map(|axis| Along::new([Some(axis)], [Some(axis - gone(axis))])).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let plan = self.plan(&io.inputs[..1])?;
        let (outputs, count) = (plan.kept.len(), plan.reduced.len());
        let axis = |walk: &Walk, i: usize| {
            let axis = walk.axes.iter().rev().nth(i);
            axis.map_or([1, 0, 0, 0], |axis| [axis.extent as u32, axis.from as u32, 0, 0])
        };
        let params = ReduceParams {
            outputs: outputs as u32,
            count: count as u32,
            correction: self.reduction.correction() as f32,
            kept0: axis(&plan.kept, 0),
            kept1: axis(&plan.kept, 1),
            kept2: axis(&plan.kept, 2),
            kept3: axis(&plan.kept, 3),
            reduced0: axis(&plan.reduced, 0),
            reduced1: axis(&plan.reduced, 1),
            reduced2: axis(&plan.reduced, 2),
            reduced3: axis(&plan.reduced, 3),
            ..Default::default()
        };
        let launch = |name, file, workgroup: u32, groups: usize| {
            let units = [units::elem(x.dtype), shaders::GRID, shaders::REDUCE_KIND, file];
            let kernel = Kernel::new(units)
                .set("WORKGROUP", workgroup)
                .set("KIND", self.reduction.kind())
                .set("KEPT_AXES", plan.kept.axes.len() as u32)
                .set("REDUCED_AXES", plan.reduced.axes.len() as u32);
            let dispatch = Dispatch::new(kernel, params, groups as u64)
                .bind("x", Source::Input(0))
                .bind("y", Source::Output(0));
            Launch::one(name, dispatch)
        };
        let lanes = 64.min(tier.limits.max_invocations);
        let lane = launch("lane", shaders::REDUCE_LANE, lanes, outputs.div_ceil(lanes as usize));
        let wide = workgroup_for(count, tier);
        let workgroup = launch("workgroup", shaders::REDUCE_WORKGROUP_OUTPUT, wide, outputs);
        // Where neighbours of an output's elements belong to other outputs, invocations side by side read side by side.
        let strided = plan.reduced.axes.last().is_some_and(|axis| axis.from >= 16) && outputs >= 4096;
        let lane_first = tier.software || count < 32 || strided;
        Ok(units::alone_or_shared(lane, workgroup, self.reduction.passes() * with_runs(count), lane_first))
    }

    fn flops(&self, io: &Io) -> u64 {
        io.inputs.first().map_or(0, |x| x.len() as u64)
    }
}

impl Builder {
    /// Elements over some axes made one number.
    pub fn reduce(
        &mut self,
        reduction: Reduction,
        x: Value,
        axes: impl Into<Vec<usize>>,
        keepdim: bool,
    ) -> Result<Value, GraphError> {
        self.op(Reduce { reduction, axes: axes.into(), keepdim }, &[x])
    }

    /// Mean over some axes.
    pub fn mean(
        &mut self,
        x: Value,
        axes: impl Into<Vec<usize>>,
        keepdim: bool,
    ) -> Result<Value, GraphError> {
        self.reduce(Reduction::Mean, x, axes, keepdim)
    }

    /// Sum over some axes.
    pub fn sum(&mut self, x: Value, axes: impl Into<Vec<usize>>, keepdim: bool) -> Result<Value, GraphError> {
        self.reduce(Reduction::Sum, x, axes, keepdim)
    }
}

/// Cases: every reduction over last, inner, several and all axes, long sums, none at all.
pub fn cases() -> Vec<Case> {
    let all = [
        Reduction::Sum,
        Reduction::Mean,
        Reduction::Max,
        Reduction::Min,
        Reduction::Var { correction: 0 },
        Reduction::Std { correction: 1 },
        Reduction::LogSumExp,
    ];
    let case = |reduction, axes: &[usize], shape: &[usize]| {
        let reduce = Reduce { reduction, axes: axes.to_vec(), keepdim: axes.len() == 1 };
        Case::new(reduce, [Fill::uniform(-2.0, 3.0).shape(shape)])
    };
    let mut cases = Vec::new();
    for reduction in all {
        cases.push(case(reduction, &[1], &[3, 129]));
        cases.push(case(reduction, &[1], &[2, 33, 7]));
        cases.push(case(reduction, &[1, 2], &[3, 5, 7, 4]));
    }
    cases.extend([
        case(Reduction::Sum, &[], &[3, 5]),
        case(Reduction::Sum, &[0, 1], &[31, 33]),
        case(Reduction::Sum, &[0, 2], &[5, 3, 64]),
        case(Reduction::Mean, &[3, 0], &[2, 3, 5, 7]),
        case(Reduction::Mean, &[0, 2, 4], &[2, 3, 5, 4, 3]),
        case(Reduction::Sum, &[1], &[3, 0]),
        case(Reduction::Prod, &[1], &[3, 0]),
        case(Reduction::Mean, &[1], &[0, 3]),
        case(Reduction::Mean, &[0], &[4097]),
        // Longer than one invocation's loops may be.
        case(Reduction::Sum, &[1], &[1, 65537]),
        case(Reduction::Std { correction: 1 }, &[1], &[1, 65537]),
        case(Reduction::LogSumExp, &[1], &[2, 32769]),
        case(Reduction::LogSumExp, &[1], &[1, 4097]),
        case(Reduction::Prod, &[1], &[9, 5]),
        case(Reduction::Max, &[0], &[1]),
    ]);
    // Far from zero, a variance from squares alone would be lost.
    let far = Reduce { reduction: Reduction::Var { correction: 1 }, axes: vec![1], keepdim: false };
    cases.push(Case::new(far, [Fill::uniform(1000.0, 1001.0).shape([3, 257])]).f32_only());
    let large = Reduce { reduction: Reduction::LogSumExp, axes: vec![1], keepdim: false };
    cases.push(Case::new(large, [Fill::uniform(-200.0, 200.0).shape([3, 65])]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn reduce(reduction: Reduction, axes: &[usize], x: &Tensor) -> Vec<f64> {
        let op = Reduce { reduction, axes: axes.to_vec(), keepdim: false };
        op.reference(&[x]).unwrap()[0].to_f64()
    }

    #[test]
    fn small_numbers_come_out() {
        let x = Tensor::f32([2, 2], vec![1., 2., 3., 6.]).unwrap();
        assert_eq!(reduce(Reduction::Sum, &[0], &x), [4., 8.]);
        assert_eq!(reduce(Reduction::Mean, &[0, 1], &x), [3.]);
        assert_eq!(reduce(Reduction::Prod, &[1], &x), [2., 18.]);
        assert_eq!(reduce(Reduction::Var { correction: 0 }, &[1], &x), [0.25, 2.25]);
        assert_eq!(reduce(Reduction::Std { correction: 1 }, &[1], &x)[1], f64::from(4.5f32.sqrt()));
        let x = Tensor::f32([3], vec![1., f32::NAN, 3.]).unwrap();
        assert!(reduce(Reduction::Max, &[0], &x)[0].is_nan());
    }

    #[test]
    fn shapes_follow_keepdim_and_axes_must_fit() {
        let x = [TensorDesc::new([2, 3, 4], DType::F32)];
        let infer = |axes: &[usize], keepdim| {
            let op = Reduce { reduction: Reduction::Sum, axes: axes.to_vec(), keepdim };
            op.infer(&x).map(|mut out| out.swap_remove(0).shape)
        };
        assert_eq!(infer(&[2, 0], true), Ok(vec![1, 3, 1]));
        assert_eq!(infer(&[1], false), Ok(vec![2, 4]));
        assert!(infer(&[3], false).is_err());
        assert!(infer(&[1, 1], false).is_err());
        let var = Reduce { reduction: Reduction::Var { correction: 4 }, axes: vec![2], keepdim: false };
        assert!(var.infer(&x).is_err());
        let mean = Reduce { reduction: Reduction::Mean, axes: vec![1], keepdim: false };
        assert!(mean.infer(&[TensorDesc::new([2, 0], DType::F32)]).is_err());
    }
}
