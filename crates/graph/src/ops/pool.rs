//! Pooling of images, as PyTorch's `max_pool2d`, `avg_pool2d` and their adaptive forms.

mod average;
mod max;
mod window;

pub use average::{AdaptiveAvgPool2d, AvgPool2d};
pub use max::{AdaptiveMaxPool2d, MaxPool2d};

use crate::registry::{Case, Fill};
use crate::{Builder, GraphError, OpError, TensorDesc, Value};

/// Rows and columns of an image `[N, H, W, C]` of floats.
fn image(op: &'static str, inputs: &[TensorDesc]) -> Result<[usize; 2], OpError> {
    match inputs {
        [x] if x.dtype.is_float() => match x.shape[..] {
            [_, height, width, _] if height > 0 && width > 0 => Ok([height, width]),
            [_, _, _, _] => Err(OpError::new(op, inputs, "rows and columns must not be 0")),
            _ => Err(OpError::new(op, inputs, "wants an image [N, H, W, C]")),
        },
        _ => Err(OpError::new(op, inputs, "wants one floating-point input")),
    }
}

/// The result of pooling to so many rows and columns.
fn pooled(op: &'static str, inputs: &[TensorDesc], size: [usize; 2]) -> Result<TensorDesc, OpError> {
    let x = &inputs[0];
    let shape = [x.shape[0], size[0], size[1], x.shape[3]];
    let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    if elements.is_none_or(|elements| elements > u32::MAX as usize) {
        return Err(OpError::new(op, inputs, "the result has more than 2^32 elements"));
    }
    Ok(TensorDesc::new(shape, x.dtype))
}

impl Builder {
    /// The largest pixel of each window of `x` of shape `[N, H, W, C]`, for each channel.
    pub fn max_pool2d(&mut self, x: Value, pool: MaxPool2d) -> Result<Value, GraphError> {
        self.op(MaxPool2d { return_indices: false, ..pool }, &[x])
    }

    /// [`Builder::max_pool2d`] with each maximum's position in its plane of `H * W` pixels, for
    /// [`Builder::max_unpool2d`].
    pub fn max_pool2d_with_indices(
        &mut self,
        x: Value,
        pool: MaxPool2d,
    ) -> Result<(Value, Value), GraphError> {
        let y = self.op_all(MaxPool2d { return_indices: true, ..pool }, &[x])?;
        match y[..] {
            [y, indices] => Ok((y, indices)),
            _ => Err(GraphError::Value { what: "output", name: self.path(), reason: "is missing".into() }),
        }
    }

    /// The mean of each window of `x` of shape `[N, H, W, C]`.
    pub fn avg_pool2d(&mut self, x: Value, pool: AvgPool2d) -> Result<Value, GraphError> {
        self.op(pool, &[x])
    }

    /// Means over windows that divide `x` of shape `[N, H, W, C]` into this many rows and columns.
    pub fn adaptive_avg_pool2d(&mut self, x: Value, output_size: [usize; 2]) -> Result<Value, GraphError> {
        self.op(AdaptiveAvgPool2d { output_size: output_size.map(Some) }, &[x])
    }

    /// The mean over all pixels of `x` of shape `[N, H, W, C]`, as `[N, 1, 1, C]`.
    pub fn global_avg_pool2d(&mut self, x: Value) -> Result<Value, GraphError> {
        self.adaptive_avg_pool2d(x, [1, 1])
    }

    /// Maxima over windows that divide `x` of shape `[N, H, W, C]` into this many rows and columns.
    pub fn adaptive_max_pool2d(&mut self, x: Value, output_size: [usize; 2]) -> Result<Value, GraphError> {
        self.op(AdaptiveMaxPool2d { output_size: output_size.map(Some), return_indices: false }, &[x])
    }

    /// The maximum over all pixels of `x` of shape `[N, H, W, C]`, as `[N, 1, 1, C]`.
    pub fn global_max_pool2d(&mut self, x: Value) -> Result<Value, GraphError> {
        self.adaptive_max_pool2d(x, [1, 1])
    }
}

/// Cases: kernels, strides, paddings, dilations and rounding of either kind, ties, infinities, many taps.
pub fn cases() -> Vec<Case> {
    let floats = |shape: [usize; 4]| Fill::uniform(-1.0, 1.0).shape(shape);
    let mut cases = Vec::new();
    // Moved data: maxima are equal to some input, and their places are integers.
    let mut max = |pool: MaxPool2d, shape: [usize; 4]| {
        cases.push(Case::new(pool, [floats(shape)]).exact());
        cases.push(Case::new(MaxPool2d { return_indices: true, ..pool }, [floats(shape)]).exact());
    };
    max(MaxPool2d::new(2), [2, 9, 11, 4]);
    max(MaxPool2d::new(3).stride(2).padding(1), [2, 9, 11, 3]);
    max(MaxPool2d::new(3).stride(2).padding(1).ceil_mode(), [1, 8, 11, 8]);
    max(MaxPool2d { stride: [1, 2], padding: [1, 0], ..MaxPool2d::new(2).kernel([2, 3]) }, [1, 9, 11, 5]);
    max(MaxPool2d::new(2).stride(1).dilation(2).padding(1), [1, 1, 3, 4]);
    max(MaxPool2d::new(3).stride(3).ceil_mode(), [0, 7, 7, 4]);
    // A window of more pixels than a dispatch looks at.
    max(MaxPool2d::new(257), [1, 257, 257, 1]);
    let ties = Fill::integers(0, 2).shape([1, 8, 9, 4]);
    let pool = MaxPool2d { return_indices: true, ..MaxPool2d::new(3).stride(2).padding(1) };
    cases.push(Case::new(pool, [ties]).exact());
    let infinite = Fill::given(crate::DType::F32, [f64::NEG_INFINITY, 0.5, f64::NEG_INFINITY, f64::INFINITY]);
    cases.push(Case::new(pool, [infinite.shape([1, 4, 5, 3])]).exact());
    let lowest = Fill::given(crate::DType::F32, [f64::NEG_INFINITY]).shape([1, 4, 4, 4]);
    cases.push(Case::new(pool, [lowest]).exact());
    for (output_size, shape) in [
        ([Some(1), Some(1)], [2, 9, 11, 4]),
        ([Some(7), Some(7)], [1, 9, 11, 3]),
        ([Some(3), None], [1, 9, 5, 4]),
    ] {
        cases.push(
            Case::new(AdaptiveMaxPool2d { output_size, return_indices: true }, [floats(shape)]).exact(),
        );
        cases.push(
            Case::new(AdaptiveMaxPool2d { output_size, return_indices: false }, [floats(shape)]).exact(),
        );
        cases.push(Case::new(AdaptiveAvgPool2d { output_size }, [floats(shape)]));
    }
    cases.push(Case::new(AdaptiveAvgPool2d { output_size: [Some(0), Some(2)] }, [floats([1, 4, 4, 4])]));
    // Many taps: two passes.
    cases.push(Case::new(AdaptiveAvgPool2d { output_size: [Some(1); 2] }, [floats([2, 31, 33, 8])]));
    // More taps than one invocation's loops may make.
    cases.push(Case::new(AdaptiveAvgPool2d { output_size: [Some(1); 2] }, [floats([1, 257, 257, 1])]));
    let mut average = |pool: AvgPool2d, shape: [usize; 4]| cases.push(Case::new(pool, [floats(shape)]));
    let three = AvgPool2d::new(3).stride(2).padding(1);
    average(AvgPool2d::new(2), [2, 9, 11, 4]);
    average(three, [2, 9, 11, 3]);
    average(AvgPool2d { count_include_pad: false, ..three }, [1, 9, 11, 4]);
    average(three.ceil_mode(), [1, 8, 10, 4]);
    average(AvgPool2d { count_include_pad: false, ..three.ceil_mode() }, [1, 8, 10, 3]);
    average(AvgPool2d { divisor_override: Some(5), ..three }, [1, 9, 11, 4]);
    average(AvgPool2d { kernel_size: [3, 1], stride: [2, 1], padding: [1, 0], ..three }, [1, 9, 11, 8]);
    average(AvgPool2d::new(1), [1, 1, 1, 1]);
    average(AvgPool2d::new(7).stride(5).padding(3), [1, 31, 33, 4]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Op, Tensor};

    fn infer(op: impl Op, shape: &[usize]) -> Option<Vec<usize>> {
        op.infer(&[TensorDesc::new(shape, DType::F32)]).ok().map(|mut out| out.swap_remove(0).shape)
    }

    #[test]
    fn extents_are_pytorchs() {
        assert_eq!(infer(MaxPool2d::new(2), &[2, 9, 11, 3]), Some(vec![2, 4, 5, 3]));
        assert_eq!(
            infer(MaxPool2d::new(3).stride(2).padding(1).ceil_mode(), &[2, 9, 11, 3]),
            Some(vec![2, 5, 6, 3])
        );
        // The last window must begin inside of the input or of the padding before it.
        assert_eq!(infer(AvgPool2d::new(2).stride(3).ceil_mode(), &[1, 3, 3, 1]), Some(vec![1, 1, 1, 1]));
        assert_eq!(
            infer(AvgPool2d::new(2).stride(3).padding(1).ceil_mode(), &[1, 4, 4, 1]),
            Some(vec![1, 2, 2, 1])
        );
        assert_eq!(
            infer(AdaptiveAvgPool2d { output_size: [Some(3), None] }, &[1, 9, 5, 4]),
            Some(vec![1, 3, 5, 4])
        );
    }

    #[test]
    fn what_has_no_windows_is_refused() {
        assert_eq!(infer(MaxPool2d::new(5), &[1, 4, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(2).padding(2), &[1, 9, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(2).stride(0), &[1, 9, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(0), &[1, 9, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(2).dilation(0), &[1, 9, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(2), &[1, 0, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(2), &[9, 9, 1]), None);
        assert_eq!(infer(MaxPool2d::new(usize::MAX).padding(usize::MAX), &[1, 9, 9, 1]), None);
        assert_eq!(infer(AvgPool2d { divisor_override: Some(0), ..AvgPool2d::new(2) }, &[1, 9, 9, 1]), None);
    }

    #[test]
    fn the_first_of_equals_and_the_last_nan_win() {
        let pool = MaxPool2d { return_indices: true, ..MaxPool2d::new(2) };
        let x = Tensor::f32([1, 2, 4, 1], vec![3., 3., f32::NAN, 1., 3., 0., 2., f32::NAN]).unwrap();
        let y = pool.reference(&[&x]).unwrap();
        assert_eq!(y[0].to_f64()[0], 3.0);
        assert!(y[0].to_f64()[1].is_nan());
        assert_eq!(y[1].as_i32(), Some(&[0, 7][..]));
    }

    #[test]
    fn padding_counts_where_it_is_asked_to() {
        let x = Tensor::f32([1, 2, 2, 1], vec![4.0; 4]).unwrap();
        let pool = AvgPool2d::new(2).padding(1);
        assert_eq!(pool.reference(&[&x]).unwrap()[0].as_f32(), Some(&[1.0; 4][..]));
        let pool = AvgPool2d { count_include_pad: false, ..pool };
        assert_eq!(pool.reference(&[&x]).unwrap()[0].as_f32(), Some(&[4.0; 4][..]));
    }
}
