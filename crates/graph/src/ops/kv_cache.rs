//! Caches of keys and values that grow in place.

use kiln_shaders as shaders;

use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// Writes `new` `[B, n, ...]` into `cache` `[B, capacity, ...]` from row `position` on, a u32 of shape `[]` given at run
/// time. Rows past the capacity are dropped. The result is the cache: its own memory where nobody else reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheAppend;

params! {
    struct AppendParams {
        items: u32, rows: u32, capacity: u32, row: u32,
    }
}

/// Batch, capacity, new rows and the length of a row.
fn extents(inputs: &[TensorDesc]) -> Result<[usize; 4], OpError> {
    let wrong = |reason: String| OpError::new("cache_append", inputs, reason);
    let [cache, new, position] = inputs else { return Err(wrong("wants three inputs".into())) };
    if *position != TensorDesc::new([], DType::U32) {
        return Err(wrong("wants the position as a u32 of shape []".into()));
    }
    if cache.dtype != new.dtype {
        return Err(wrong(format!("a cache of {} cannot hold {}", cache.dtype, new.dtype)));
    }
    let ([batch, capacity, row @ ..], [new_batch, rows, new_row @ ..]) = (&cache.shape[..], &new.shape[..])
    else {
        return Err(wrong("wants a cache and rows of at least two axes".into()));
    };
    if batch != new_batch || row != new_row {
        return Err(wrong("wants rows that differ from the cache in the second axis alone".into()));
    }
    if rows > capacity {
        return Err(wrong(format!("{rows} rows do not fit a capacity of {capacity}")));
    }
    Ok([*batch, *capacity, *rows, row.iter().product()])
}

impl Op for CacheAppend {
    fn name(&self) -> &'static str {
        "cache_append"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        extents(inputs)?;
        Ok(vec![inputs[0].clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|tensor| tensor.desc()).collect();
        let [batch, capacity, rows, row] = extents(&descs)?;
        let position = inputs[2].as_u32().and_then(|values| values.first()).map_or(0, |&v| v as usize);
        let row = row * descs[0].dtype.size();
        let kept = rows.min(capacity.saturating_sub(position)) * row;
        let (mut cache, new) = (inputs[0].as_bytes().to_vec(), inputs[1].as_bytes());
        for b in 0..batch {
            let (to, from) = ((b * capacity + position.min(capacity)) * row, b * rows * row);
            cache[to..to + kept].copy_from_slice(&new[from..from + kept]);
        }
        Ok(vec![Tensor::from_bytes(&descs[0], &cache)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let axes = (0..io.inputs[0].rank()).filter(|&axis| axis != 1);
        Independence::Axes(axes.map(|axis| Along::new([Some(axis), Some(axis)], [Some(axis)])).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let [batch, capacity, rows, row] = extents(io.inputs)?;
        let unit = if row.is_multiple_of(4) { 4 } else { 1 };
        let access = if unit == 4 { shaders::CACHE_APPEND_VEC4 } else { shaders::CACHE_APPEND_SCALAR };
        let workgroup = 64.min(tier.limits.max_invocations);
        let items = batch * rows * row / unit;
        let params = AppendParams {
            items: items as u32,
            rows: rows as u32,
            capacity: capacity as u32,
            row: (row / unit) as u32,
            ..Default::default()
        };
        let parts = vec![units::elem(io.outputs[0].dtype), shaders::GRID, access, shaders::CACHE_APPEND];
        let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
        let dispatch = Dispatch::new(kernel, params, (items as u64).div_ceil(workgroup.into()))
            .bind("new_rows", Source::Input(1))
            .bind("position", Source::Input(2))
            .bind("cache", Source::Output(0));
        Ok(vec![Launch::one("append", dispatch)])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn bytes(&self, io: &Io) -> u64 {
        io.inputs.get(1).map_or(0, |new| 2 * new.bytes() as u64)
    }

    fn starts_as(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

impl Builder {
    /// `cache` `[B, capacity, ...]` with `new` `[B, n, ...]` in its rows from `position` on.
    pub fn cache_append(&mut self, cache: Value, new: Value, position: Value) -> Result<Value, GraphError> {
        self.op(CacheAppend, &[cache, new, position])
    }
}

/// Cases: positions inside, at the end and past it, rows of odd and even length, every type.
pub fn cases() -> Vec<Case> {
    let case = |cache: &[usize], rows: usize, position: u32, fill: Fill| {
        let mut new = cache.to_vec();
        new[1] = rows;
        let position = Fill::given(DType::U32, [f64::from(position)]).shape([]);
        Case::new(CacheAppend, [fill.clone().shape(cache), fill.shape(new), position]).exact()
    };
    let floats = || Fill::uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (rows, position) in [(1, 0), (1, 8), (3, 2), (9, 0), (4, 7), (2, 9), (2, u32::MAX), (0, 3)] {
        cases.push(case(&[2, 9, 2, 4], rows, position, floats()));
        cases.push(case(&[2, 9, 3], rows, position, floats()));
    }
    cases.push(case(&[3, 4], 2, 1, floats()));
    cases.push(case(&[1, 257, 12, 64], 5, 200, floats()));
    cases.push(case(&[2, 5, 3], 2, 1, Fill::typed(DType::I32, -1000, 1000)).f32_only());
    cases.push(case(&[0, 5, 3], 2, 1, floats()));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(cache: &[usize], new: &[usize], position: u32) -> Result<Vec<f64>, OpError> {
        let ones = |shape: &[usize]| Tensor::f32(shape, vec![1.0; shape.iter().product()]);
        let (cache, new) = (Tensor::zeros(&TensorDesc::new(cache, DType::F32)), ones(new)?);
        let position = Tensor::u32([], vec![position])?;
        Ok(CacheAppend.reference(&[&cache, &new, &position])?[0].to_f64())
    }

    #[test]
    fn rows_land_at_the_position_and_not_past_the_end() {
        assert_eq!(append(&[1, 3, 1], &[1, 2, 1], 0), Ok(vec![1., 1., 0.]));
        assert_eq!(append(&[1, 3, 1], &[1, 2, 1], 2), Ok(vec![0., 0., 1.]));
        assert_eq!(append(&[2, 2, 1], &[2, 1, 1], 7), Ok(vec![0.; 4]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(append(&[1, 3, 2], &[1, 2, 1], 0).is_err());
        assert!(append(&[1, 3, 2], &[1, 4, 2], 0).is_err());
        assert!(append(&[1, 3, 2], &[2, 1, 2], 0).is_err());
        assert!(append(&[3], &[1], 0).is_err());
    }
}
