//! Means over windows.

use super::window::{Stride, Window, adaptive};
use super::{image, pooled};
use crate::ops::resample::{self, Taps};
use crate::{Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier};

/// The mean of each window of `x` of shape `[N, H, W, C]`; `torch.nn.functional.avg_pool2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2d {
    /// Rows and columns of a window.
    pub kernel_size: [usize; 2],
    /// Rows and columns from window to window.
    pub stride: [usize; 2],
    /// Zeros around the image: rows above and below, columns left and right.
    pub padding: [usize; 2],
    /// Whether a last window that is cut off by the end counts.
    pub ceil_mode: bool,
    /// Whether the padding counts in the mean.
    pub count_include_pad: bool,
    /// What sums are divided by, instead of the number of pixels.
    pub divisor_override: Option<u32>,
}

impl AvgPool2d {
    /// Square windows side by side.
    pub fn new(kernel: usize) -> Self {
        Self {
            kernel_size: [kernel; 2],
            stride: [kernel; 2],
            padding: [0; 2],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    /// The same at this distance.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    /// The same with padding on all sides.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding; 2];
        self
    }

    /// The same with windows that the end cuts off.
    pub fn ceil_mode(mut self) -> Self {
        self.ceil_mode = true;
        self
    }

    fn taps(&self, inputs: &[TensorDesc]) -> Result<[Vec<Taps>; 2], OpError> {
        const NAME: &str = "avg_pool2d";
        let size = image(NAME, inputs)?;
        if self.divisor_override == Some(0) {
            return Err(OpError::new(NAME, inputs, "the divisor must not be 0"));
        }
        let taps = |axis: usize| {
            let windows = Stride {
                input: size[axis],
                kernel: self.kernel_size[axis],
                stride: self.stride[axis],
                padding: self.padding[axis],
                dilation: 1,
                ceil_mode: self.ceil_mode,
            }
            .windows()
            .map_err(|reason| OpError::new(NAME, inputs, reason))?;
            // Means are separable, so each axis divides by its own count; a given divisor is the rows' alone.
            let divisor = |window: &Window| match self.divisor_override {
                Some(divisor) if axis == 0 => divisor as usize,
                Some(_) => 1,
                None if self.count_include_pad => window.padded,
                None => window.count,
            };
            let means = windows.iter().map(|window| mean(window, divisor(window), size[axis]));
            Ok::<Vec<Taps>, OpError>(means.collect())
        };
        Ok([taps(0)?, taps(1)?])
    }
}

/// Equal weights. A window outside of the input sums nothing.
fn mean(window: &Window, divisor: usize, input: usize) -> Taps {
    if window.count == 0 {
        return Taps { first: window.first.min(input - 1), weights: vec![0.0] };
    }
    Taps { first: window.first, weights: vec![1.0 / divisor as f64; window.count] }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let [rows, columns] = self.taps(inputs)?;
        Ok(vec![pooled(self.name(), inputs, [rows.len(), columns.len()])?])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let [rows, columns] = self.taps(&[inputs[0].desc()])?;
        Ok(vec![resample::reference(inputs[0], &rows, &columns)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[1, 2])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let [rows, columns] = self.taps(&io.inputs[..1])?;
        resample::launches(&io.inputs[0], &io.outputs[0], &rows, &columns, tier)
    }

    fn flops(&self, io: &Io) -> u64 {
        let images = io.outputs[0].shape[0] * io.outputs[0].last();
        self.taps(&io.inputs[..1]).map_or(0, |[rows, columns]| resample::flops(images, &rows, &columns))
    }
}

/// Means over windows that divide `x` of shape `[N, H, W, C]` into a given number of rows and columns;
/// `torch.nn.functional.adaptive_avg_pool2d`. `[1, 1]` is global average pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdaptiveAvgPool2d {
    /// Rows and columns of the output; the input's where there is none.
    pub output_size: [Option<usize>; 2],
}

impl AdaptiveAvgPool2d {
    fn taps(&self, inputs: &[TensorDesc]) -> Result<[Vec<Taps>; 2], OpError> {
        let [height, width] = image("adaptive_avg_pool2d", inputs)?;
        let size = super::max::adaptive_size("adaptive_avg_pool2d", self.output_size, inputs)?;
        let taps = |input, output| -> Vec<Taps> {
            adaptive(input, output).iter().map(|window| mean(window, window.count, input)).collect()
        };
        Ok([taps(height, size[0]), taps(width, size[1])])
    }
}

impl Op for AdaptiveAvgPool2d {
    fn name(&self) -> &'static str {
        "adaptive_avg_pool2d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let [rows, columns] = self.taps(inputs)?;
        Ok(vec![pooled(self.name(), inputs, [rows.len(), columns.len()])?])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let [rows, columns] = self.taps(&[inputs[0].desc()])?;
        Ok(vec![resample::reference(inputs[0], &rows, &columns)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[1, 2])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let [rows, columns] = self.taps(&io.inputs[..1])?;
        resample::launches(&io.inputs[0], &io.outputs[0], &rows, &columns, tier)
    }

    fn flops(&self, io: &Io) -> u64 {
        let images = io.outputs[0].shape[0] * io.outputs[0].last();
        self.taps(&io.inputs[..1]).map_or(0, |[rows, columns]| resample::flops(images, &rows, &columns))
    }
}
