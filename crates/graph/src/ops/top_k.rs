//! The largest elements along an axis, in order; all of them for a sort.

use kiln_shaders as shaders;
use rayon::prelude::*;

use crate::ops::lines::{Lines, compare, order, workgroup_for};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// The `k` largest or smallest elements along an axis in order, and their indices (i32). Of equals the first come
/// first; NaN is above all numbers. With `k` the axis's extent it is a stable sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    /// The axis.
    pub axis: usize,
    /// How many.
    pub k: usize,
    /// Whether the smallest come first, rather than the largest.
    pub smallest: bool,
}

params! {
    struct TopKParams { elements: u32, len: u32, inner: u32, k: u32 }
}

impl TopK {
    fn lines(&self, inputs: &[TensorDesc]) -> Result<Lines, OpError> {
        let wrong = |reason: String| OpError::new("top_k", inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input".into())) };
        let lines = Lines::along(&x.shape, self.axis).ok_or_else(|| wrong("there is no such axis".into()))?;
        if self.k > lines.len {
            return Err(wrong(format!("wants {} of {} elements", self.k, lines.len)));
        }
        Ok(lines)
    }
}

impl Op for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        self.lines(inputs)?;
        let mut values = inputs[0].clone();
        values.shape[self.axis] = self.k;
        let indices = TensorDesc::new(values.shape.clone(), DType::I32);
        Ok(vec![values, indices])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = [inputs[0].desc()];
        let (lines, out) = (self.lines(&x)?, self.infer(&x)?.swap_remove(0));
        let values = inputs[0].to_f64();
        let best = |line: usize| {
            let at = |i: usize| values[lines.start(line) + i * lines.inner];
            let mut places: Vec<usize> = (0..lines.len).collect();
            places.sort_by(|&a, &b| {
                let ascending = compare(at(a), at(b));
                if self.smallest { ascending } else { ascending.reverse() }
            });
            places.truncate(self.k);
            places
        };
        let chosen: Vec<Vec<usize>> = (0..lines.count()).into_par_iter().map(best).collect();
        let (mut places, mut indices) = (vec![None; out.len()], vec![0; out.len()]);
        for (line, chosen) in chosen.into_iter().enumerate() {
            let start = line / lines.inner * self.k * lines.inner + line % lines.inner;
            for (rank, i) in chosen.into_iter().enumerate() {
                places[start + rank * lines.inner] = Some(lines.start(line) + i * lines.inner);
                indices[start + rank * lines.inner] = i as i32;
            }
        }
        let values = inputs[0].pick(out.shape.clone(), places.into_iter())?;
        Ok(vec![values, Tensor::i32(out.shape, indices)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[self.axis])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let lines = self.lines(&io.inputs[..1])?;
        let params = TopKParams {
            elements: x.len() as u32,
            len: lines.len as u32,
            inner: lines.inner as u32,
            k: self.k as u32,
            ..Default::default()
        };
        let launch = |name, file, workgroup: u32, groups: usize| {
            let units = [units::elem(x.dtype), order(x.dtype), shaders::GRID, file];
            let kernel = Kernel::new(units).set("WORKGROUP", workgroup).set("SMALLEST", self.smallest.into());
            let dispatch = Dispatch::new(kernel, params, groups as u64)
                .bind("x", Source::Input(0))
                .bind("values", Source::Output(0))
                .bind("indices", Source::Output(1));
            Launch::one(name, dispatch)
        };
        let lanes = 64.min(tier.limits.max_invocations);
        let rank = launch("rank", shaders::TOP_K_RANK, lanes, x.len().div_ceil(lanes as usize));
        let wide = workgroup_for(lines.len, tier);
        let select = launch("select", shaders::TOP_K_SELECT, wide, lines.count());
        // Counting costs len comparisons an element, selecting k rounds of barriers.
        let few = self.k <= 128 && self.k * 16 <= lines.len && lines.len >= 1024;
        let rounds = self.k * (lines.len.div_ceil(wide as usize) + 8);
        let can_select = self.k <= 256 && rounds <= units::MAX_LOOP_ITERATIONS;
        // The counting kernel looks at eight elements an iteration.
        let can_rank = lines.len.div_ceil(8) <= units::MAX_LOOP_ITERATIONS;
        Ok(match (few, can_select) {
            (_, true) if !can_rank => vec![select],
            (true, true) => vec![select, rank],
            (false, true) => vec![rank, select],
            (_, false) => vec![rank],
        })
    }

    fn flops(&self, io: &Io) -> u64 {
        // Comparisons of the counting kernel.
        let len = io.inputs.first().and_then(|x| x.shape.get(self.axis)).map_or(0, |&len| len as u64);
        let elements = io.inputs.first().map_or(0, |x| x.len() as u64);
        elements * if self.k <= 128 { self.k as u64 } else { len }
    }
}

impl Builder {
    /// Values and indices of the `k` largest elements along an axis, in descending order.
    pub fn top_k(&mut self, x: Value, k: usize, axis: usize) -> Result<(Value, Value), GraphError> {
        self.ranked(TopK { axis, k, smallest: false }, x)
    }

    /// Values and indices of all elements along an axis in order; equal ones keep theirs.
    pub fn sort(&mut self, x: Value, axis: usize, descending: bool) -> Result<(Value, Value), GraphError> {
        let k = self.shape(x).get(axis).copied().unwrap_or(0);
        self.ranked(TopK { axis, k, smallest: !descending }, x)
    }

    fn ranked(&mut self, op: TopK, x: Value) -> Result<(Value, Value), GraphError> {
        match self.op_all(op, &[x])?[..] {
            [values, indices] => Ok((values, indices)),
            _ => {
                let error = OpError::new("top_k", &[self.desc(x).clone()], "gives values and indices");
                Err(GraphError::Op { path: self.path(), error })
            }
        }
    }
}

/// Cases: each axis, k from none to all, ties, every type.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for smallest in [false, true] {
        let case = |axis, k, fill: Fill| Case::new(TopK { axis, k, smallest }, [fill]).exact();
        let float = |shape: &[usize]| Fill::uniform(-9.0, 9.0).shape(shape);
        cases.extend([
            case(0, 0, float(&[3])),
            case(0, 1, float(&[1])),
            case(1, 3, float(&[3, 5])),
            case(1, 3, float(&[2, 3, 7])),
            case(1, 3, float(&[1, 1025])),
            case(0, 33, float(&[33, 5])),
            // Longer than a loop of one element an iteration may be.
            case(1, 5, float(&[1, 65537])).full(),
            case(1, 257, float(&[2, 257])),
            case(1, 65, float(&[2, 65, 3])),
            case(1, 17, Fill::integers(-3, 3).shape([3, 65])),
            case(1, 65, Fill::integers(-3, 3).shape([3, 65])),
            case(0, 4, Fill::given(DType::F32, [0.0, -0.0, 1.0, -0.0, 0.0]).shape([5])),
        ]);
        for dtype in [DType::I32, DType::U32] {
            let low = if dtype == DType::I32 { -99 } else { 0 };
            cases.push(case(1, 9, Fill::typed(dtype, low, 99).shape([4, 77])).f32_only());
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(k: usize, smallest: bool, values: &[f32]) -> Vec<i32> {
        let x = Tensor::f32([values.len()], values.to_vec()).unwrap();
        let y = TopK { axis: 0, k, smallest }.reference(&[&x]).unwrap();
        y[1].as_i32().unwrap().to_vec()
    }

    #[test]
    fn equals_keep_their_order_and_nan_is_the_largest() {
        assert_eq!(top(3, false, &[1., 3., 2., 3.]), [1, 3, 2]);
        assert_eq!(top(4, true, &[1., 3., 1., 0.]), [3, 0, 2, 1]);
        assert_eq!(top(2, false, &[1., f32::NAN, 3.]), [1, 2]);
        assert_eq!(top(3, true, &[1., f32::NAN, 3.]), [0, 2, 1]);
    }

    #[test]
    fn k_fits_the_axis() {
        let x = [TensorDesc::new([2, 3], DType::F32)];
        let infer = |axis, k| TopK { axis, k, smallest: false }.infer(&x);
        assert_eq!(infer(1, 2).unwrap()[1], TensorDesc::new([2, 2], DType::I32));
        assert!(infer(1, 4).is_err());
        assert!(infer(2, 1).is_err());
    }
}
