//! Maxima over windows, and where they are.

use kiln_shaders as shaders;
use rayon::prelude::*;

use super::window::{Stride, Window, adaptive};
use super::{image, pooled};
use crate::ops::slabs::{self, Rows};
use crate::ops::spatial::{bind, groups, lanes, lanes_unit, words};
use crate::ops::units;
use crate::{
    DType, Dispatch, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier, params,
};

/// The largest pixel of each window of `x` of shape `[N, H, W, C]`, for each channel;
/// `torch.nn.functional.max_pool2d`.
///
/// NaN is larger than any number. Output 1, where it is asked for, gives each maximum's position in its plane of
/// `H * W` pixels: the first of equal maxima, the last NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2d {
    /// Rows and columns of a window.
    pub kernel_size: [usize; 2],
    /// Rows and columns from window to window.
    pub stride: [usize; 2],
    /// Rows above and below and columns left and right that belong to windows but hold nothing.
    pub padding: [usize; 2],
    /// Rows and columns from pixel to pixel of a window.
    pub dilation: [usize; 2],
    /// Whether a last window that is cut off by the end counts.
    pub ceil_mode: bool,
    /// Whether there is an output 1 (i32) with the maxima's positions.
    pub return_indices: bool,
}

impl MaxPool2d {
    /// Square windows side by side.
    pub fn new(kernel: usize) -> Self {
        Self {
            kernel_size: [kernel; 2],
            stride: [kernel; 2],
            padding: [0; 2],
            dilation: [1; 2],
            ceil_mode: false,
            return_indices: false,
        }
    }

    /// The same with windows of these rows and columns.
    pub fn kernel(mut self, kernel: [usize; 2]) -> Self {
        self.kernel_size = kernel;
        self
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

    /// The same with gaps between the pixels of a window.
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = [dilation; 2];
        self
    }

    /// The same with windows that the end cuts off.
    pub fn ceil_mode(mut self) -> Self {
        self.ceil_mode = true;
        self
    }

    fn windows(&self, inputs: &[TensorDesc]) -> Result<Windows, OpError> {
        let size = image("max_pool2d", inputs)?;
        let windows = |axis: usize| {
            Stride {
                input: size[axis],
                kernel: self.kernel_size[axis],
                stride: self.stride[axis],
                padding: self.padding[axis],
                dilation: self.dilation[axis],
                ceil_mode: self.ceil_mode,
            }
            .windows()
            .map_err(|reason| OpError::new("max_pool2d", inputs, reason))
        };
        Ok(Windows {
            rows: windows(0)?,
            columns: windows(1)?,
            dilation: self.dilation,
            indices: self.return_indices,
        })
    }
}

/// Maxima over windows that divide `x` of shape `[N, H, W, C]` into a given number of rows and columns;
/// `torch.nn.functional.adaptive_max_pool2d`. `[1, 1]` is global max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdaptiveMaxPool2d {
    /// Rows and columns of the output; the input's where there is none.
    pub output_size: [Option<usize>; 2],
    /// Whether there is an output 1 (i32) with the maxima's positions.
    pub return_indices: bool,
}

/// The output's rows and columns.
pub(super) fn adaptive_size(
    op: &'static str,
    output_size: [Option<usize>; 2],
    inputs: &[TensorDesc],
) -> Result<[usize; 2], OpError> {
    let size = image(op, inputs)?;
    let wanted = [output_size[0].unwrap_or(size[0]), output_size[1].unwrap_or(size[1])];
    if wanted.iter().chain(&size).any(|&extent| extent > 1 << 24) {
        return Err(OpError::new(op, inputs, "extents must not be above 2^24"));
    }
    Ok(wanted)
}

impl AdaptiveMaxPool2d {
    fn windows(&self, inputs: &[TensorDesc]) -> Result<Windows, OpError> {
        let input = image("adaptive_max_pool2d", inputs)?;
        let output = adaptive_size("adaptive_max_pool2d", self.output_size, inputs)?;
        Ok(Windows {
            rows: adaptive(input[0], output[0]),
            columns: adaptive(input[1], output[1]),
            dilation: [1; 2],
            indices: self.return_indices,
        })
    }
}

/// The windows of both axes.
struct Windows {
    rows: Vec<Window>,
    columns: Vec<Window>,
    dilation: [usize; 2],
    indices: bool,
}

params! {
    struct MaxPoolParams {
        first_row: u32, rows: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32, channels: u32,
        row_step: u32, column_step: u32, x_origin: u32, y_origin: u32, indices_origin: u32, lowest: f32,
        first_tap: u32, end_tap: u32,
    }
}

impl Windows {
    fn infer(&self, op: &'static str, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let y = pooled(op, inputs, [self.rows.len(), self.columns.len()])?;
        let indices = TensorDesc::new(y.shape.clone(), DType::I32);
        Ok(if self.indices { vec![y, indices] } else { vec![y] })
    }

    fn reference(&self, op: &'static str, x: &Tensor) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(op, &[x.desc()])?.swap_remove(0);
        let (height, width, channels) = (x.shape()[1], x.shape()[2], x.shape()[3]);
        let values = x.to_f64();
        let (out_height, out_width) = (self.rows.len(), self.columns.len());
        let maximum = |i: usize| {
            let (pixel, channel) = (i / channels, i % channels);
            let (line, column) = (pixel / out_width, &self.columns[pixel % out_width]);
            let row = &self.rows[line % out_height];
            let image = line / out_height * height * width;
            let mut best = (f64::NEG_INFINITY, row.first * width + column.first);
            for r in 0..row.count {
                for c in 0..column.count {
                    let at = (row.first + r * self.dilation[0]) * width + column.first + c * self.dilation[1];
                    let value = values[(image + at) * channels + channel];
                    if value > best.0 || value.is_nan() {
                        best = (value, at);
                    }
                }
            }
            best
        };
        let best: Vec<(f64, usize)> = (0..out.len()).into_par_iter().map(maximum).collect();
        let maxima: Vec<f64> = best.iter().map(|best| best.0).collect();
        let mut outputs = vec![Tensor::from_f64(out.shape.clone(), out.dtype, &maxima)?];
        if self.indices {
            outputs.push(Tensor::i32(out.shape, best.iter().map(|best| best.1 as i32).collect())?);
        }
        Ok(outputs)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (x, y) = (&io.inputs[0], &io.outputs[0]);
        let lanes = lanes(x.last());
        let (in_height, out_height) = (x.shape[1], y.shape[1]);
        let reads = |line: usize| {
            let window = &self.rows[line % out_height];
            let first = line / out_height * in_height + window.first;
            first..first + window.count.saturating_sub(1) * self.dilation[0] + usize::from(window.count > 0)
        };
        let entries = self.rows.iter().chain(&self.columns);
        let mut launch = Launch { name: "direct", ..Launch::default() };
        launch.tables.push(words(entries.flat_map(|window| [window.first as u32, window.count as u32])));
        let outputs: Vec<Rows> = io.outputs.iter().map(|desc| Rows::of(desc, 2)).collect();
        let most = |windows: &[Window]| windows.iter().map(|window| window.count).max().unwrap_or(0);
        let taps = most(&self.rows).max(1);
        let stretch = (units::MAX_LOOP_ITERATIONS / (1 + most(&self.columns))).max(1);
        for slab in slabs::cut(Rows::of(x, 2), &outputs, reads, tier)? {
            let (workgroup, groups) = groups(slab.rows.len() * y.shape[2] * y.last() / lanes, tier);
            let mut params = MaxPoolParams {
                first_row: slab.rows.start as u32,
                rows: slab.rows.len() as u32,
                in_height: in_height as u32,
                in_width: x.shape[2] as u32,
                out_height: out_height as u32,
                out_width: y.shape[2] as u32,
                channels: (y.last() / lanes) as u32,
                row_step: self.dilation[0] as u32,
                column_step: self.dilation[1] as u32,
                x_origin: slabs::origin(&slab.x, x, lanes),
                y_origin: slabs::origin(&slab.y[0], y, lanes),
                lowest: f32::NEG_INFINITY,
                ..Default::default()
            };
            if let (Some(indices), Some(range)) = (io.outputs.get(1), slab.y.get(1)) {
                params.indices_origin = slabs::origin(range, indices, lanes);
            }
            let place =
                if self.indices { shaders::SPATIAL_STORE_INDEX } else { shaders::SPATIAL_STORE_NO_INDEX };
            let parts =
                [units::elem(x.dtype), shaders::GRID, lanes_unit(lanes), place, shaders::SPATIAL_MAX_POOL];
            let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
            let mut dispatch = Dispatch::new(kernel, params, groups).bind("windows", Source::Table(0));
            if self.indices {
                dispatch = match slab.y.get(1).cloned().flatten() {
                    Some(range) => dispatch.bind_range("indices", Source::Output(1), range),
                    None => dispatch.bind("indices", Source::Output(1)),
                };
            }
            let dispatch = bind(dispatch, &slab);
            launch.dispatches.extend((0..taps).step_by(stretch).map(|first| {
                let end = (first + stretch).min(taps);
                let params = MaxPoolParams { first_tap: first as u32, end_tap: end as u32, ..params };
                Dispatch { params: params.into(), ..dispatch.clone() }
            }));
        }
        Ok(vec![launch])
    }

    /// Comparisons.
    fn flops(&self, io: &Io) -> u64 {
        let pixels = |windows: &[Window]| windows.iter().map(|window| window.count).sum::<usize>();
        let images = io.outputs[0].shape[0] * io.outputs[0].last();
        (images * pixels(&self.rows) * pixels(&self.columns)) as u64
    }
}

macro_rules! max_op {
    ($op:ident, $name:literal) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
                self.windows(inputs)?.infer($name, inputs)
            }

            fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                self.windows(&[inputs[0].desc()])?.reference($name, inputs[0])
            }

            fn independence(&self, io: &Io) -> Independence {
                Independence::except(io, &[1, 2])
            }

            fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
                self.windows(&io.inputs[..1])?.launches(io, tier)
            }

            fn flops(&self, io: &Io) -> u64 {
                self.windows(&io.inputs[..1]).map_or(0, |windows| windows.flops(io))
            }
        }
    };
}
max_op!(MaxPool2d, "max_pool2d");
max_op!(AdaptiveMaxPool2d, "adaptive_max_pool2d");
