//! The partial inverse of max pooling, as `torch.nn.functional.max_unpool2d`.

use kiln_shaders as shaders;

use crate::ops::spatial::groups;
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// Puts `x` of shape `[N, h, w, C]` where max pooling found it: at `indices` (i32, same shape) in planes of `H * W`
/// pixels. The result is `[N, H, W, C]`, zero elsewhere.
///
/// Where an index occurs twice, the later pixel stands. Indices outside of the plane are left out; PyTorch refuses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxUnpool2d {
    /// Rows and columns of the result.
    pub output_size: [usize; 2],
}

impl MaxUnpool2d {
    /// The rows and columns that pooling with these options most likely came from.
    pub fn size_of(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> [usize; 2] {
        [0, 1].map(|axis| {
            let grown =
                input[axis].saturating_sub(1).saturating_mul(stride[axis]).saturating_add(kernel[axis]);
            grown.saturating_sub(padding[axis].saturating_mul(2))
        })
    }
}

params! {
    struct PlacesParams { elements: u32 }
}

params! {
    struct UnpoolParams { pixels: u32, planes: u32, channels: u32, elements: u32 }
}

impl Op for MaxUnpool2d {
    fn name(&self) -> &'static str {
        "max_unpool2d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new("max_unpool2d", inputs, reason);
        let [x, indices] = inputs else { return Err(wrong("wants an image and indices")) };
        let &[batch, _, _, channels] = &x.shape[..] else {
            return Err(wrong("wants an image [N, H, W, C]"));
        };
        if indices.shape != x.shape || indices.dtype != DType::I32 {
            return Err(wrong("the indices must be i32 of the image's shape"));
        }
        let [height, width] = self.output_size;
        let shape = [batch, height, width, channels];
        let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let plane = height.checked_mul(width).filter(|&plane| plane <= i32::MAX as usize);
        if plane.is_none() || elements.is_none_or(|elements| elements > u32::MAX as usize) {
            return Err(wrong("the result has too many elements"));
        }
        Ok(vec![TensorDesc::new(shape, x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (inputs[0], inputs[1]);
        let out = self.infer(&[x.desc(), indices.desc()])?.swap_remove(0);
        let plane = self.output_size[0] * self.output_size[1];
        let (pixels, channels) = (x.shape()[1] * x.shape()[2], x.desc().last());
        let mut source = vec![None; out.len()];
        for (i, &index) in indices.as_i32().unwrap_or_default().iter().enumerate() {
            let (image, channel) = (i / channels / pixels, i % channels);
            if let Ok(index) = usize::try_from(index)
                && index < plane
            {
                source[(image * plane + index) * channels + channel] = Some(i);
            }
        }
        Ok(vec![x.pick(out.shape, source.into_iter())?])
    }

    fn independence(&self, _: &Io) -> Independence {
        let along = |axis| Along::new([Some(axis), Some(axis)], [Some(axis)]);
        Independence::Axes(vec![along(0), along(3)])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (x, y) = (&io.inputs[0], &io.outputs[0]);
        let plane = self.output_size[0] * self.output_size[1];
        let (workgroup, all_groups) = groups(y.len(), tier);
        let kernel = |parts: Vec<kiln_shaders::Unit>| Kernel::new(parts).set("WORKGROUP", workgroup);
        // Each place of the result remembers the last pixel that wants it, so that the order of the writes does not
        // matter; 0 stands for none.
        let places = Source::Scratch(0);
        let count = || PlacesParams { elements: y.len() as u32, ..Default::default() };
        let clear =
            Dispatch::new(kernel(vec![shaders::GRID, shaders::SPATIAL_UNPOOL_CLEAR]), count(), all_groups)
                .bind("places", places);
        let params = UnpoolParams {
            pixels: (x.shape[1] * x.shape[2]) as u32,
            planes: plane as u32,
            channels: x.last() as u32,
            elements: x.len() as u32,
            ..Default::default()
        };
        let (_, x_groups) = groups(x.len(), tier);
        let claim =
            Dispatch::new(kernel(vec![shaders::GRID, shaders::SPATIAL_UNPOOL_CLAIM]), params, x_groups)
                .bind("indices", Source::Input(1))
                .bind("places", places);
        let parts = vec![units::elem(x.dtype), shaders::GRID, shaders::SPATIAL_UNPOOL_FETCH];
        let fetch = Dispatch::new(kernel(parts), count(), all_groups)
            .bind("x", Source::Input(0))
            .bind("places", places)
            .bind("y", Source::Output(0));
        Ok(vec![Launch {
            name: "claim",
            scratch: vec![y.len() as u64 * 4],
            dispatches: vec![clear, claim, fetch],
            ..Launch::default()
        }])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// Puts `x` of shape `[N, h, w, C]` at `indices` (i32, same shape) of zeros of shape `[N, H, W, C]`.
    pub fn max_unpool2d(
        &mut self,
        x: Value,
        indices: Value,
        output_size: [usize; 2],
    ) -> Result<Value, GraphError> {
        self.op(MaxUnpool2d { output_size }, &[x, indices])
    }
}

/// Cases: indices in any order, some twice, some outside; nothing at all.
pub fn cases() -> Vec<Case> {
    let case = |output_size: [usize; 2], shape: [usize; 4], low: i32, high: i32| {
        let x = Fill::uniform(-1.0, 1.0).shape(shape);
        Case::new(MaxUnpool2d { output_size }, [x, Fill::typed(DType::I32, low, high).shape(shape)]).exact()
    };
    vec![
        case([8, 8], [2, 4, 4, 3], 0, 63),
        case([9, 11], [1, 4, 5, 4], -5, 120),
        case([7, 8], [3, 2, 2, 8], 0, 55),
        case([2, 3], [1, 9, 7, 2], 0, 5),
        case([1, 1], [1, 1, 1, 1], 0, 0),
        case([4, 4], [0, 2, 2, 4], 0, 15),
        case([4, 4], [1, 0, 2, 4], 0, 15),
        case([0, 4], [1, 2, 2, 4], 0, 15),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_go_back_to_their_places() {
        let x = Tensor::f32([1, 1, 2, 1], vec![5.0, 7.0]).unwrap();
        let indices = Tensor::i32([1, 1, 2, 1], vec![3, 0]).unwrap();
        let y = MaxUnpool2d { output_size: [2, 2] }.reference(&[&x, &indices]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[7.0, 0.0, 0.0, 5.0][..]));
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let op = MaxUnpool2d { output_size: [2, 2] };
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let x = desc(&[1, 1, 2, 1], DType::F32);
        assert!(op.infer(&[x.clone(), desc(&[1, 1, 2, 1], DType::I32)]).is_ok());
        assert!(op.infer(&[x.clone(), desc(&[1, 1, 1, 1], DType::I32)]).is_err());
        assert!(op.infer(&[x.clone(), desc(&[1, 1, 2, 1], DType::F32)]).is_err());
        assert!(op.infer(std::slice::from_ref(&x)).is_err());
        let huge = MaxUnpool2d { output_size: [usize::MAX, 2] };
        assert!(huge.infer(&[x, desc(&[1, 1, 2, 1], DType::I32)]).is_err());
    }

    #[test]
    fn the_size_undoes_pooling() {
        assert_eq!(MaxUnpool2d::size_of([5, 5], [3, 3], [2, 2], [1, 1]), [9, 9]);
        assert_eq!(MaxUnpool2d::size_of([4, 5], [2, 2], [2, 2], [0, 0]), [8, 10]);
    }
}
