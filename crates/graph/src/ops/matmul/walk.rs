//! How a kernel walks over the products of a batch.

use super::Extents;

/// Leading axes over which both inputs walk alike are merged. Kernels step over two of those that are left; each index of
/// the others is a dispatch of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Products of one dispatch.
    pub products: usize,
    /// Extent of the inner axis.
    pub inner: u32,
    /// Strides in elements along the outer axis and the inner one.
    pub a_outer: u32,
    pub a_inner: u32,
    pub b_outer: u32,
    pub b_inner: u32,
    /// Where each dispatch starts in a, b and the result, in elements.
    pub starts: Vec<[u32; 3]>,
}

impl Walk {
    /// The walk over a product's leading axes.
    pub fn new(e: &Extents) -> Self {
        // (extent, a's stride, b's stride), outermost first.
        let mut axes: Vec<(usize, usize, usize)> = Vec::new();
        for axis in 0..e.batch.len() {
            let (extent, a, b) = (e.batch[axis], e.a_strides[axis], e.b_strides[axis]);
            if extent == 1 {
                continue;
            }
            match axes.last_mut() {
                Some(last) if last.1 == a * extent && last.2 == b * extent => *last = (last.0 * extent, a, b),
                _ => axes.push((extent, a, b)),
            }
        }
        let inner = axes.pop().unwrap_or((1, 0, 0));
        let outer = axes.pop().unwrap_or((1, 0, 0));
        let products = inner.0 * outer.0;
        let mut starts = vec![[0; 3]];
        for (extent, a, b) in axes {
            let steps = |&[a0, b0, _]: &[u32; 3]| {
                (0..extent as u32).map(move |i| [a0 + i * a as u32, b0 + i * b as u32, 0]).collect::<Vec<_>>()
            };
            starts = starts.iter().flat_map(steps).collect();
        }
        for (i, start) in starts.iter_mut().enumerate() {
            start[2] = (i * products * e.m * e.n) as u32;
        }
        Self {
            products,
            inner: inner.0 as u32,
            a_outer: outer.1 as u32,
            a_inner: inner.1 as u32,
            b_outer: outer.2 as u32,
            b_inner: inner.2 as u32,
            starts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Matmul;
    use crate::{DType, TensorDesc};

    fn walk(a: &[usize], b: &[usize]) -> Walk {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        Walk::new(&Matmul { transpose_b: false }.extents(&[desc(a), desc(b)]).unwrap())
    }

    #[test]
    fn axes_that_walk_alike_are_one() {
        let w = walk(&[2, 3, 4, 8], &[2, 3, 8, 5]);
        assert_eq!((w.products, w.inner, w.a_inner, w.b_inner), (6, 6, 32, 40));
        assert_eq!(w.starts, [[0; 3]]);
    }

    #[test]
    fn axes_past_two_are_dispatches() {
        let w = walk(&[2, 1, 3, 1, 4, 8], &[1, 2, 1, 5, 8, 5]);
        assert_eq!((w.products, w.starts.len()), (15, 4));
        assert_eq!(w.starts[3], [96, 200, 3 * 15 * 20]);
    }
}
