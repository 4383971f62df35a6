//! Parts put, or added, where indices say.

use kiln_shaders as shaders;

use crate::ops::gather::is_index;
use crate::ops::lines::Lines;
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// `x` with parts of `src` along an axis put, or added, where `ids` say. `src` has `x`'s shape but for the axis.
///
/// With `ids` of `src`'s shape it is PyTorch's `scatter` (`scatter_add`): `y[.., ids[.., m, ..], ..] = src[.., m, ..]`.
/// With `ids` of one axis it is PyTorch's `index_copy` (`index_add`): `y[.., ids[m], ..] = src[.., m, ..]`.
///
/// Of several parts for one place the last is kept, or all are added in order: a device gives the same bits each time.
/// Indices outside of the axis are left out; PyTorch raises an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scatter {
    /// The axis.
    pub axis: usize,
    /// Whether to add.
    pub add: bool,
}

params! {
    struct ScatterParams {
        len: u32, run: u32, extent: u32, parts: u32, ids_outer: u32, ids_part: u32, ids_inner: u32,
        first_part: u32, end_part: u32,
    }
}

impl Scatter {
    /// The lines of the result, and the extent of the axis in `src`.
    fn lines(&self, inputs: &[TensorDesc]) -> Result<(Lines, usize), OpError> {
        let wrong = |reason: &str| OpError::new("scatter", inputs, reason);
        let [x, ids, src] = inputs else { return Err(wrong("wants a tensor, indices and parts")) };
        if !is_index(ids.dtype) {
            return Err(wrong("wants indices of type i32 or u32"));
        }
        let lines = Lines::along(&x.shape, self.axis).ok_or_else(|| wrong("there is no such axis"))?;
        let mut alike = x.shape.iter().zip(&src.shape).enumerate();
        let alike = x.rank() == src.rank() && alike.all(|(axis, (p, q))| axis == self.axis || p == q);
        if !alike || x.dtype != src.dtype {
            return Err(wrong("wants parts of the tensor's type, and its shape but for the axis"));
        }
        let parts = src.shape[self.axis];
        if ids.shape != src.shape && ids.shape != [parts] {
            return Err(wrong("wants an index for each part, or for each element of the parts"));
        }
        if self.add && !x.dtype.is_float() {
            return Err(wrong("adds floating-point tensors alone"));
        }
        Ok((lines, parts))
    }

    /// Strides of `ids` for (outer, part, inner).
    fn ids_strides(ids: &TensorDesc, parts: usize, inner: usize, rank: usize) -> [usize; 3] {
        if ids.rank() == rank && rank > 1 { [parts * inner, inner, 1] } else { [0, 1, 0] }
    }
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        self.lines(inputs)?;
        Ok(vec![inputs[0].clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|x| x.desc()).collect();
        let (lines, parts) = self.lines(&descs)?;
        let [outer_stride, part_stride, inner_stride] =
            Self::ids_strides(&descs[1], parts, lines.inner, descs[0].rank());
        let ids = inputs[1].to_f64();
        // For each part: its place in the result and in src.
        let mut moves = Vec::with_capacity(lines.count() * parts);
        for outer in 0..lines.outer {
            for part in 0..parts {
                for inner in 0..lines.inner {
                    let id = ids[outer * outer_stride + part * part_stride + inner * inner_stride];
                    if (0.0..lines.len as f64).contains(&id) {
                        let to = (outer * lines.len + id as usize) * lines.inner + inner;
                        moves.push((to, (outer * parts + part) * lines.inner + inner));
                    }
                }
            }
        }
        if self.add {
            let (mut values, src) = (inputs[0].to_f64(), inputs[2].to_f64());
            moves.into_iter().for_each(|(to, from)| values[to] += src[from]);
            return Ok(vec![Tensor::from_f64(inputs[0].shape(), inputs[0].dtype(), &values)?]);
        }
        // Bits are kept: places in the tensor that x and src make one after the other.
        let size = inputs[0].dtype().size();
        let mut bytes = inputs[0].as_bytes().to_vec();
        let src = inputs[2].as_bytes();
        for (to, from) in moves {
            bytes[to * size..][..size].copy_from_slice(&src[from * size..][..size]);
        }
        Ok(vec![Tensor::from_bytes(&descs[0], &bytes)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let (x, ids) = (&io.inputs[0], &io.inputs[1]);
        let each = ids.rank() == x.rank() && x.rank() > 1;
        let along = |axis| Along::new([Some(axis), each.then_some(axis), Some(axis)], [Some(axis)]);
        Independence::Axes((0..x.rank()).filter(|&axis| axis != self.axis).map(along).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (lines, parts) = self.lines(&io.inputs[..3])?;
        let x = &io.inputs[0];
        let [ids_outer, ids_part, ids_inner] = Self::ids_strides(&io.inputs[1], parts, lines.inner, x.rank());
        let params = ScatterParams {
            len: x.len() as u32,
            run: lines.inner as u32,
            extent: lines.len as u32,
            parts: parts as u32,
            ids_outer: ids_outer as u32,
            ids_part: ids_part as u32,
            ids_inner: ids_inner as u32,
            ..Default::default()
        };
        let workgroup = 64.min(tier.limits.max_invocations);
        let kernel = Kernel::new([units::elem(x.dtype), shaders::GRID, shaders::SCATTER])
            .set("WORKGROUP", workgroup)
            .set("ADD", self.add.into());
        let stretch = units::MAX_LOOP_ITERATIONS;
        let dispatch = |first: usize| {
            let end = (first + stretch).min(parts);
            let params = ScatterParams { first_part: first as u32, end_part: end as u32, ..params };
            Dispatch::new(kernel.clone(), params, (x.len() as u64).div_ceil(workgroup.into()))
                .bind("x", Source::Input(0))
                .bind("ids", Source::Input(1))
                .bind("src", Source::Input(2))
                .bind("y", Source::Output(0))
        };
        let dispatches = (0..parts.max(1)).step_by(stretch).map(dispatch).collect();
        Ok(vec![Launch { name: "collect", dispatches, ..Launch::default() }])
    }

    fn flops(&self, io: &Io) -> u64 {
        // Comparisons: what its time goes to.
        let parts =
            io.inputs.get(2).and_then(|src| src.shape.get(self.axis)).map_or(0, |&parts| parts as u64);
        io.outputs.iter().map(|out| out.len() as u64 * parts).sum()
    }
}

impl Builder {
    /// `x` with parts of `src` put where `ids` say along an axis.
    pub fn scatter(&mut self, x: Value, ids: Value, src: Value, axis: usize) -> Result<Value, GraphError> {
        self.op(Scatter { axis, add: false }, &[x, ids, src])
    }

    /// `x` with parts of `src` added where `ids` say along an axis.
    pub fn scatter_add(
        &mut self,
        x: Value,
        ids: Value,
        src: Value,
        axis: usize,
    ) -> Result<Value, GraphError> {
        self.op(Scatter { axis, add: true }, &[x, ids, src])
    }
}

/// Cases: both shapes of indices, each axis, repeated indices, indices outside, no parts, every type.
pub fn cases() -> Vec<Case> {
    let f = |shape: &[usize]| Fill::uniform(-2.0, 2.0).shape(shape);
    let ids = |shape: &[usize], low, high| Fill::typed(DType::I32, low, high).shape(shape);
    let case = |axis, add, x: Fill, ids: Fill, src: Fill| {
        let case = Case::new(Scatter { axis, add }, [x, ids, src]);
        if add { case } else { case.exact() }
    };
    let mut cases = Vec::new();
    for add in [false, true] {
        cases.extend([
            case(0, add, f(&[7]), ids(&[3], 0, 6), f(&[3])),
            case(0, add, f(&[5, 3]), ids(&[9], 0, 4), f(&[9, 3])),
            case(0, add, f(&[5, 3]), ids(&[9, 3], 0, 4), f(&[9, 3])),
            case(1, add, f(&[2, 33, 4]), ids(&[7], 0, 32), f(&[2, 7, 4])),
            case(1, add, f(&[2, 33, 4]), ids(&[2, 7, 4], 0, 32), f(&[2, 7, 4])),
            case(2, add, f(&[2, 3, 65]), ids(&[31], -9, 80), f(&[2, 3, 31])),
            case(0, add, f(&[5, 3]), ids(&[0], 0, 4), f(&[0, 3])),
            // More parts than a dispatch takes, each place hit near the end as at the start.
            case(0, add, f(&[9]), ids(&[65537], 0, 12000), f(&[65537])),
        ]);
    }
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let fill = |shape: &[usize]| Fill::typed(dtype, 0, 1).shape(shape);
        cases.push(case(1, false, fill(&[3, 9]), ids(&[4], 0, 8), fill(&[3, 4])).f32_only());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_kept_and_all_are_added() {
        let x = Tensor::f32([3], vec![1., 2., 3.]).unwrap();
        let ids = Tensor::i32([4], vec![0, 2, 0, 7]).unwrap();
        let src = Tensor::f32([4], vec![10., 20., 30., 40.]).unwrap();
        let y = Scatter { axis: 0, add: false }.reference(&[&x, &ids, &src]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[30., 2., 20.][..]));
        let y = Scatter { axis: 0, add: true }.reference(&[&x, &ids, &src]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[41., 2., 23.][..]));
    }

    #[test]
    fn shapes_must_agree() {
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let infer = |x: &[usize], ids: &[usize], src: &[usize]| {
            let inputs = [desc(x, DType::F32), desc(ids, DType::I32), desc(src, DType::F32)];
            Scatter { axis: 1, add: false }.infer(&inputs)
        };
        assert!(infer(&[2, 5], &[3], &[2, 3]).is_ok());
        assert!(infer(&[2, 5], &[2, 3], &[2, 3]).is_ok());
        assert!(infer(&[2, 5], &[4], &[2, 3]).is_err());
        assert!(infer(&[2, 5], &[3], &[1, 3]).is_err());
        assert!(infer(&[2], &[3], &[3]).is_err());
    }
}
