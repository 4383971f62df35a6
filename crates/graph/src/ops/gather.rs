//! Elements picked by index.

use kiln_shaders as shaders;

use crate::ops::lines::Lines;
use crate::registry::{Case, Fill};
use crate::split::{alignment, bindable, binding_limit};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// Slices of `x` along an axis, picked by `ids` of any shape, which takes the axis's place: ONNX's `Gather`, and with
/// one axis of `ids` PyTorch's `index_select`. Along axis 0 of `[vocabulary, dim]` it is an embedding.
///
/// An index outside of the axis means its nearer end, on the CPU as on devices; PyTorch raises an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
}

/// Single elements of `x` along an axis: `y[.., i, ..] = x[.., ids[.., i, ..], ..]`, PyTorch's `gather`. `ids` has the
/// shape of the result, equal to `x`'s but for the axis.
///
/// An index outside of the axis means its nearer end, on the CPU as on devices; PyTorch raises an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeAlong {
    /// The axis.
    pub axis: usize,
}

params! {
    struct GatherParams { items: u32, run: u32, ids: u32, extent: u32, signed: u32, first: u32, end: u32, origin: u32 }
}

/// Whether indices can have this type.
pub(super) fn is_index(dtype: DType) -> bool {
    matches!(dtype, DType::I32 | DType::U32)
}

/// Indices, moved to the axis's nearer end where they are outside.
fn clamped(ids: &Tensor, extent: usize) -> Vec<usize> {
    let last = extent.saturating_sub(1) as f64;
    ids.to_f64().into_iter().map(|id| id.clamp(0.0, last) as usize).collect()
}

impl Gather {
    fn lines(&self, inputs: &[TensorDesc]) -> Result<Lines, OpError> {
        let wrong = |reason: &str| OpError::new("gather", inputs, reason);
        let [x, ids] = inputs else { return Err(wrong("wants a tensor and indices")) };
        if !is_index(ids.dtype) {
            return Err(wrong("wants indices of type i32 or u32"));
        }
        let lines = Lines::along(&x.shape, self.axis).ok_or_else(|| wrong("there is no such axis"))?;
        if lines.len == 0 && !ids.is_empty() {
            return Err(wrong("has nothing to pick from along the axis"));
        }
        Ok(lines)
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        self.lines(inputs)?;
        let (x, ids) = (&inputs[0], &inputs[1]);
        let mut shape = x.shape[..self.axis].to_vec();
        shape.extend(&ids.shape);
        shape.extend(&x.shape[self.axis + 1..]);
        Ok(vec![TensorDesc::new(shape, x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs = [inputs[0].desc(), inputs[1].desc()];
        let (lines, out) = (self.lines(&descs)?, self.infer(&descs)?.swap_remove(0));
        let ids = clamped(inputs[1], lines.len);
        let rows = (0..lines.outer).flat_map(|outer| ids.iter().map(move |&id| outer * lines.len + id));
        let places = rows.flat_map(|row| (0..lines.inner).map(move |i| Some(row * lines.inner + i)));
        Ok(vec![inputs[0].pick(out.shape, places)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let (x, ids) = (io.inputs[0].rank(), io.inputs[1].rank());
        let outer = (0..self.axis).map(|axis| Along::new([Some(axis)], [Some(axis)]));
        let picked = (0..ids).map(|axis| Along::new([None, Some(axis)], [Some(self.axis + axis)]));
        let inner = (self.axis + 1..x).map(|axis| Along::new([Some(axis)], [Some(axis - 1 + ids)]));
        Independence::Axes(outer.chain(picked).chain(inner).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let lines = self.lines(&io.inputs[..2])?;
        let size = io.inputs[0].dtype.size();
        let run = lines.inner * size;
        let wider = [(16, shaders::ITEM_16), (8, shaders::ITEM_8), (4, shaders::ITEM_4)];
        let item = wider.into_iter().find(|&(bytes, _)| run.is_multiple_of(bytes));
        let (bytes, unit) = item.unwrap_or((2, shaders::ITEM_F16));
        let items = io.outputs[0].bytes() / bytes;
        let params = GatherParams {
            items: items as u32,
            run: (run / bytes) as u32,
            ids: io.inputs[1].len() as u32,
            extent: lines.len as u32,
            signed: u32::from(io.inputs[1].dtype == DType::I32),
            ..Default::default()
        };
        Ok(vec![launch("items", [shaders::GRID, unit, shaders::GATHER], params, bytes, io, tier)])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn bytes(&self, io: &Io) -> u64 {
        let ids = io.inputs.get(1).map_or(0, |ids| ids.bytes() as u64);
        ids + io.outputs.iter().map(|out| 2 * out.bytes() as u64).sum::<u64>()
    }
}

impl TakeAlong {
    fn lines(&self, inputs: &[TensorDesc]) -> Result<Lines, OpError> {
        let wrong = |reason: &str| OpError::new("take_along", inputs, reason);
        let [x, ids] = inputs else { return Err(wrong("wants a tensor and indices")) };
        if !is_index(ids.dtype) {
            return Err(wrong("wants indices of type i32 or u32"));
        }
        let lines = Lines::along(&x.shape, self.axis).ok_or_else(|| wrong("there is no such axis"))?;
        let mut alike = x.shape.iter().zip(&ids.shape).enumerate();
        if x.rank() != ids.rank() || !alike.all(|(axis, (p, q))| axis == self.axis || p == q) {
            return Err(wrong("wants indices of the tensor's shape but for the axis"));
        }
        if lines.len == 0 && !ids.is_empty() {
            return Err(wrong("has nothing to pick from along the axis"));
        }
        Ok(lines)
    }
}

impl Op for TakeAlong {
    fn name(&self) -> &'static str {
        "take_along"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        self.lines(inputs)?;
        Ok(vec![TensorDesc::new(inputs[1].shape.clone(), inputs[0].dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs = [inputs[0].desc(), inputs[1].desc()];
        let lines = self.lines(&descs)?;
        let picked = descs[1].shape[self.axis];
        let ids = clamped(inputs[1], lines.len);
        let place = |(i, id): (usize, usize)| {
            let outer = i / lines.inner / picked;
            Some((outer * lines.len + id) * lines.inner + i % lines.inner)
        };
        let places = ids.into_iter().enumerate().map(place);
        Ok(vec![inputs[0].pick(descs[1].shape.clone(), places)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let along = |axis| Along::new([(axis != self.axis).then_some(axis), Some(axis)], [Some(axis)]);
        Independence::Axes((0..io.outputs[0].rank()).map(along).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let lines = self.lines(&io.inputs[..2])?;
        let out = &io.outputs[0];
        let unit = if out.dtype.size() == 2 { shaders::ITEM_F16 } else { shaders::ITEM_4 };
        let params = GatherParams {
            items: out.len() as u32,
            run: lines.inner as u32,
            ids: out.shape[self.axis] as u32,
            extent: lines.len as u32,
            signed: u32::from(io.inputs[1].dtype == DType::I32),
            ..Default::default()
        };
        let units = [shaders::GRID, unit, shaders::TAKE_ALONG];
        Ok(vec![launch("elements", units, params, out.dtype.size(), io, tier)])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

/// A dispatch over items of so many bytes; over one run of the axis after the other, each writing what is picked from it,
/// where `x` is larger than a binding and has no axes in front of this one.
fn launch(
    name: &'static str,
    units: [crate::Unit; 3],
    params: GatherParams,
    item: usize,
    io: &Io,
    tier: &Tier,
) -> Launch {
    let workgroup = 64.min(tier.limits.max_invocations);
    let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
    let groups = u64::from(params.items).div_ceil(workgroup.into());
    let (x, extent, row) = (io.inputs[0].bytes(), params.extent as usize, params.run as usize * item);
    let limit = binding_limit(&tier.limits) as usize;
    let rows = if x <= limit || x > extent * row {
        extent
    } else {
        limit.saturating_sub(alignment(&tier.limits) as usize + 16) / row
    };
    let dispatch = |first: usize| {
        let end = (first + rows.max(1)).min(extent);
        let bytes = (first * row) as u64..(end * row) as u64;
        let range = (rows < extent).then(|| bindable(bytes, x as u64, &tier.limits));
        let origin = range.as_ref().map_or(0, |range| range.start as usize / item);
        let params = GatherParams { first: first as u32, end: end as u32, origin: origin as u32, ..params };
        let mut dispatch = Dispatch::new(kernel.clone(), params, groups)
            .bind("x", Source::Input(0))
            .bind("ids", Source::Input(1))
            .bind("y", Source::Output(0));
        dispatch.bindings[0].range = range;
        dispatch
    };
    let dispatches = (0..extent).step_by(rows.max(1)).map(dispatch).collect();
    Launch { name, dispatches, ..Launch::default() }
}

impl Builder {
    /// Slices of `x` along an axis picked by `ids`, whose shape takes the axis's place.
    pub fn gather(&mut self, x: Value, ids: Value, axis: usize) -> Result<Value, GraphError> {
        self.op(Gather { axis }, &[x, ids])
    }

    /// Single elements of `x` along an axis: PyTorch's `gather`.
    pub fn take_along(&mut self, x: Value, ids: Value, axis: usize) -> Result<Value, GraphError> {
        self.op(TakeAlong { axis }, &[x, ids])
    }

    /// Rows of `weight`, of shape `[vocabulary, dim]`, for `ids` of any shape: `[.., dim]`.
    pub fn embedding(&mut self, ids: Value, weight: Value) -> Result<Value, GraphError> {
        self.gather(weight, ids, 0)
    }
}

/// Cases: rows of every width, each axis, scalar and empty indices, indices outside, every type.
pub fn cases() -> Vec<Case> {
    let x = |shape: &[usize]| Fill::uniform(-9.0, 9.0).shape(shape);
    let ids = |shape: &[usize], high: i32| Fill::typed(DType::I32, 0, high).shape(shape);
    let gather = |axis, x: Fill, ids: Fill| Case::new(Gather { axis }, [x, ids]).exact();
    let take = |axis, x: Fill, ids: Fill| Case::new(TakeAlong { axis }, [x, ids]).exact();
    let mut cases = vec![
        gather(0, x(&[10, 4]), ids(&[3], 9)),
        gather(0, x(&[100, 33]), ids(&[2, 7], 99)),
        gather(0, x(&[5, 1]), ids(&[1, 1], 4)),
        gather(0, x(&[65, 6]), ids(&[129], 64)),
        gather(0, x(&[65, 768]), ids(&[1, 9], 64)).constant([0]),
        gather(0, x(&[7]), ids(&[], 6)),
        gather(0, x(&[7, 3]), ids(&[0], 6)),
        gather(1, x(&[3, 7, 8]), ids(&[2, 2], 6)),
        gather(2, x(&[3, 7, 8]), ids(&[5], 7)),
        gather(0, x(&[10, 4]), Fill::typed(DType::I32, -5, 15).shape([31])),
        gather(0, x(&[10, 4]), Fill::typed(DType::U32, 0, 15).shape([31])),
        gather(0, Fill::typed(DType::I32, -9, 9).shape([10, 3]), ids(&[5], 9)).f32_only(),
        gather(0, Fill::typed(DType::Bool, 0, 1).shape([10, 3]), ids(&[5], 9)).f32_only(),
        take(1, x(&[3, 7]), ids(&[3, 5], 6)),
        take(0, x(&[3, 7]), ids(&[9, 7], 2)),
        take(1, x(&[2, 9, 4]), ids(&[2, 33, 4], 8)),
        take(0, x(&[9]), Fill::typed(DType::I32, -5, 15).shape([31])),
        take(0, x(&[9]), ids(&[0], 8)),
    ];
    cases.push(take(0, Fill::typed(DType::U32, 0, 9).shape([10, 3]), ids(&[5, 3], 9)).f32_only());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_take_the_axis_place() {
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let (x, ids) = (desc(&[2, 3, 4], DType::F32), desc(&[5, 6], DType::I32));
        assert_eq!(Gather { axis: 1 }.infer(&[x.clone(), ids.clone()]).unwrap()[0].shape, [2, 5, 6, 4]);
        assert!(Gather { axis: 3 }.infer(&[x.clone(), ids.clone()]).is_err());
        assert!(Gather { axis: 0 }.infer(&[x.clone(), desc(&[5], DType::F32)]).is_err());
        assert!(Gather { axis: 0 }.infer(&[desc(&[0, 4], DType::F32), ids.clone()]).is_err());
        assert!(TakeAlong { axis: 0 }.infer(&[x.clone(), ids]).is_err());
        assert!(TakeAlong { axis: 0 }.infer(&[x, desc(&[7, 3, 4], DType::I32)]).is_ok());
    }

    #[test]
    fn indices_outside_mean_the_nearer_end() {
        let x = Tensor::f32([3], vec![1., 2., 3.]).unwrap();
        let ids = Tensor::i32([4], vec![-7, 1, 2, 99]).unwrap();
        let y = Gather { axis: 0 }.reference(&[&x, &ids]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[1., 2., 3., 3.][..]));
    }
}
