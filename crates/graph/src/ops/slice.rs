//! Part of a tensor along its axes.

use crate::ops::strided::{self, Walk};
use crate::registry::{Case, Fill};
use crate::{Builder, DType, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Indices of one axis: `start`, `start + step` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// The first index.
    pub start: usize,
    /// Number of indices.
    pub len: usize,
    /// Distance of neighbours; less than 0 walks backwards, 0 repeats the first.
    pub step: isize,
}

/// Part of a tensor: some of the indices of each axis. NumPy's basic indexing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Indices of each axis.
    pub ranges: Vec<SliceRange>,
}

impl Slice {
    fn walk(&self, x: &TensorDesc) -> Walk {
        let ranges = self.ranges.iter().zip(x.strides());
        let from = ranges.clone().map(|(range, stride)| range.start * stride).sum();
        let shape: Vec<usize> = self.ranges.iter().map(|range| range.len).collect();
        let strides: Vec<isize> = ranges.map(|(range, stride)| range.step * stride as isize).collect();
        Walk::reading(&shape, &strides, from)
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new(self.name(), inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input".into())) };
        if self.ranges.len() != x.rank() {
            return Err(wrong(format!("has {} ranges for {} axes", self.ranges.len(), x.rank())));
        }
        for (axis, (range, &extent)) in self.ranges.iter().zip(&x.shape).enumerate() {
            // The last index, in a type that no product of the two overflows.
            let last = range.start as i128 + range.step as i128 * (range.len as i128 - 1);
            let inside = range.start < extent && (0..extent as i128).contains(&last);
            if !inside && (range.len > 0 || range.start > extent) {
                return Err(wrong(format!("{range:?} leaves axis {axis} of extent {extent}")));
            }
        }
        if !self.walk(x).fits() {
            return Err(wrong("cuts more than eight separate axes".into()));
        }
        let shape: Vec<usize> = self.ranges.iter().map(|range| range.len).collect();
        Ok(vec![TensorDesc::new(shape, x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc()])?.swap_remove(0);
        strided::reference(&self.walk(&inputs[0].desc()), inputs[0], &out.shape)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let dispatches = strided::dispatches(&self.walk(x), io, 0, tier);
        Ok(vec![Launch { name: "strided", dispatches, ..Launch::default() }])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn bytes(&self, io: &Io) -> u64 {
        io.outputs.iter().map(|out| 2 * out.bytes() as u64).sum()
    }
}

impl Builder {
    fn whole(&self, x: Value) -> Vec<SliceRange> {
        self.shape(x).iter().map(|&len| SliceRange { start: 0, len, step: 1 }).collect()
    }

    /// Indices `start..end` of one axis.
    pub fn slice(&mut self, x: Value, axis: usize, start: usize, end: usize) -> Result<Value, GraphError> {
        self.slice_step(x, axis, start, end, 1)
    }

    /// Every `step`-th of the indices `start..end` of one axis.
    pub fn slice_step(
        &mut self,
        x: Value,
        axis: usize,
        start: usize,
        end: usize,
        step: usize,
    ) -> Result<Value, GraphError> {
        let mut ranges = self.whole(x);
        let len = end.saturating_sub(start).div_ceil(step.max(1));
        let range = SliceRange { start, len, step: step as isize };
        match ranges.get_mut(axis) {
            Some(whole) if *whole == range => return Ok(x),
            Some(whole) => *whole = range,
            // One range too many: refused with the shape in the message.
            None => ranges.push(range),
        }
        self.op(Slice { ranges }, &[x])
    }

    /// The order of the indices of some axes reversed.
    pub fn flip(&mut self, x: Value, axes: &[usize]) -> Result<Value, GraphError> {
        let mut ranges = self.whole(x);
        for &axis in axes {
            match ranges.get_mut(axis) {
                Some(range) => {
                    *range = SliceRange { start: range.len.saturating_sub(1), len: range.len, step: -1 };
                }
                None => ranges.push(SliceRange { start: 0, len: 0, step: 1 }),
            }
        }
        self.op(Slice { ranges }, &[x])
    }

    /// Consecutive parts of one axis, of these sizes, which must add up to its extent.
    pub fn split(&mut self, x: Value, axis: usize, sizes: &[usize]) -> Result<Vec<Value>, GraphError> {
        let extent = self.shape(x).get(axis).copied().unwrap_or(0);
        if sizes.iter().sum::<usize>() != extent {
            let reason = format!("parts of {sizes:?} do not make up axis {axis}");
            let error = OpError::new("split", &[self.desc(x).clone()], reason);
            return Err(GraphError::Op { path: self.path(), error });
        }
        let mut start = 0;
        let part = |&size: &usize| {
            start += size;
            self.slice(x, axis, start - size, start)
        };
        sizes.iter().map(part).collect()
    }

    /// Parts of equal size of one axis; the last is smaller where the extent does not divide. PyTorch's `chunk`.
    pub fn chunk(&mut self, x: Value, axis: usize, parts: usize) -> Result<Vec<Value>, GraphError> {
        let extent = self.shape(x).get(axis).copied().unwrap_or(0);
        let size = extent.div_ceil(parts.max(1)).max(1);
        let sizes: Vec<usize> = (0..extent.div_ceil(size)).map(|i| size.min(extent - i * size)).collect();
        self.split(x, axis, &sizes)
    }
}

/// Cases: starts and lengths on and off the vector width, steps, reversal, nothing, every type.
pub fn cases() -> Vec<Case> {
    let case = |shape: &[usize], ranges: &[(usize, usize, isize)]| {
        let ranges = ranges.iter().map(|&(start, len, step)| SliceRange { start, len, step }).collect();
        Case::new(Slice { ranges }, [Fill::uniform(-9.0, 9.0).shape(shape)]).exact()
    };
    let mut cases = vec![
        case(&[], &[]),
        case(&[7], &[(3, 0, 1)]),
        case(&[7], &[(3, 1, 1)]),
        case(&[1021], &[(5, 1001, 1)]),
        case(&[1021], &[(1020, 1021, -1)]),
        case(&[1024], &[(8, 512, 1)]),
        case(&[64, 64], &[(0, 64, 1), (16, 32, 1)]),
        case(&[64, 64], &[(63, 64, -1), (0, 64, 1)]),
        case(&[33, 65], &[(1, 31, 1), (2, 63, 1)]),
        case(&[33, 65], &[(0, 17, 2), (64, 33, -2)]),
        case(&[2, 197, 48], &[(0, 2, 1), (0, 1, 1), (0, 48, 1)]),
        case(&[2, 197, 48], &[(0, 2, 1), (1, 196, 1), (0, 48, 1)]),
        case(&[2, 9, 8, 12], &[(0, 2, 1), (1, 7, 1), (1, 6, 1), (4, 8, 1)]),
        case(&[2, 9, 8, 12], &[(1, 2, -1), (8, 3, -3), (0, 4, 2), (0, 12, 1)]),
        case(&[3, 5], &[(1, 4, 0), (0, 5, 1)]),
        case(&[3, 6], &[(0, 3, 1), (2, 2, 1)]),
    ];
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let high = if dtype == DType::Bool { 1 } else { 1 << 20 };
        let range = SliceRange { start: 1, len: 4, step: 1 };
        let fill = Fill::typed(dtype, 0, high).shape([6, 7]);
        cases.push(Case::new(Slice { ranges: vec![range; 2] }, [fill]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: usize, len: usize, step: isize) -> SliceRange {
        SliceRange { start, len, step }
    }

    #[test]
    fn ranges_stay_inside() {
        let x = [TensorDesc::new([5], DType::F32)];
        let infer = |r: SliceRange| Slice { ranges: vec![r] }.infer(&x);
        assert_eq!(infer(range(4, 5, -1)).unwrap()[0].shape, [5]);
        assert_eq!(infer(range(5, 0, 1)).unwrap()[0].shape, [0]);
        for wrong in
            [range(1, 5, 1), range(4, 6, -1), range(5, 1, 1), range(6, 0, 1), range(0, 3, isize::MAX)]
        {
            assert!(infer(wrong).is_err(), "{wrong:?}");
        }
        assert!(Slice { ranges: vec![] }.infer(&x).is_err());
    }

    #[test]
    fn builder_follows_pytorch() {
        let mut b = Builder::new();
        let x = b.input("x", [7, 4], DType::F32).unwrap();
        let shapes = |b: &Builder, parts: Vec<Value>| -> Vec<usize> {
            parts.iter().map(|&part| b.shape(part)[0]).collect()
        };
        let parts = b.chunk(x, 0, 3).unwrap();
        assert_eq!(shapes(&b, parts), [3, 3, 1]);
        let parts = b.split(x, 0, &[2, 5]).unwrap();
        assert_eq!(shapes(&b, parts), [2, 5]);
        let y = b.slice_step(x, 0, 1, 6, 2).unwrap();
        assert_eq!(b.shape(y), [3, 4]);
        assert!(b.split(x, 0, &[2, 4]).is_err());
        assert!(b.slice(x, 2, 0, 1).is_err());
        assert!(b.slice(x, 0, 3, 8).is_err());
        assert!(b.flip(x, &[2]).is_err());
    }

    #[test]
    fn steps_may_go_backwards() {
        let x = Tensor::i32([5], vec![0, 1, 2, 3, 4]).unwrap();
        let y = Slice { ranges: vec![range(4, 3, -2)] }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[4, 2, 0][..]));
    }
}
