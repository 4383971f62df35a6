//! Sampling of images at given points, as `torch.nn.functional.grid_sample`.

use kiln_shaders as shaders;
use rayon::prelude::*;

use crate::ops::slabs::{self, Rows};
use crate::ops::spatial::{bind, groups, lanes, lanes_unit};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// How pixels between pixels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GridSampleMode {
    /// Two pixels along each axis.
    Bilinear,
    /// The nearest pixel; the one with the even index of two that are equally near.
    Nearest,
    /// Four pixels along each axis by cubic convolution (Keys 1981), `a = -0.75`.
    Bicubic,
}

/// What lies outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GridSamplePadding {
    /// Zeros.
    Zeros,
    /// The pixel at the edge.
    Border,
    /// The image, mirrored as often as needed.
    Reflection,
}

/// Samples `x` of shape `[N, H, W, C]` at the points of `grid` of shape `[N, H', W', 2]`, which gives `[N, H', W', C]`.
///
/// A point is (x, y): (-1, -1) is the top left of the image and (1, 1) the bottom right. `grid` has the image's type,
/// or is f32 beside an f16 image, since f16 cannot tell apart the pixels of a large one. Coordinates are computed in
/// f32, as PyTorch does, so that what lies between two pixels goes to the same one of them. Points that are NaN or
/// infinite give NaN, except that the nearest pixel of such a point lies outside of the image, that the border takes
/// infinity to the edge and NaN to 0, and that reflection takes both to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GridSample {
    /// How pixels between pixels are made.
    pub mode: GridSampleMode,
    /// What lies outside of the image.
    pub padding_mode: GridSamplePadding,
    /// Whether -1 and 1 are the centres of the pixels at the edges; else they are the image's edges.
    pub align_corners: bool,
}

impl GridSample {
    /// A point's coordinate along an axis, in pixels.
    fn unnormalize(&self, coordinate: f32, extent: usize) -> f32 {
        let extent = extent as f32;
        if self.align_corners {
            (coordinate + 1.0) * ((extent - 1.0) / 2.0)
        } else {
            (coordinate + 1.0) * (extent / 2.0) - 0.5
        }
    }

    /// A coordinate brought inside as the padding does; zeros leave it, but not far outside.
    fn settle(&self, at: f32, extent: usize) -> f32 {
        let last = extent as f32 - 1.0;
        match self.padding_mode {
            GridSamplePadding::Zeros if at.is_nan() => -4.0,
            GridSamplePadding::Zeros => at.clamp(-4.0, last + 5.0),
            GridSamplePadding::Border if at.is_nan() => 0.0,
            GridSamplePadding::Border => at.clamp(0.0, last),
            GridSamplePadding::Reflection if !at.is_finite() => 0.0,
            GridSamplePadding::Reflection => {
                let low = if self.align_corners { 0.0 } else { -0.5 };
                let span = if self.align_corners { last } else { last + 1.0 };
                if span <= 0.0 {
                    return 0.0;
                }
                let distance = (at - low).abs();
                let flips = (distance / span).floor();
                let rest = distance - flips * span;
                let odd = flips - 2.0 * (flips / 2.0).floor() > 0.5;
                (low + if odd { span - rest } else { rest }).clamp(0.0, last)
            }
        }
    }

    /// Pixels along an axis and their weights; none of either where the result is NaN.
    fn taps(&self, coordinate: f32, extent: usize) -> Option<Vec<(i64, f64)>> {
        let at = self.unnormalize(coordinate, extent);
        match self.mode {
            GridSampleMode::Nearest => Some(vec![(self.settle(at, extent).round_ties_even() as i64, 1.0)]),
            GridSampleMode::Bilinear => {
                if self.padding_mode == GridSamplePadding::Zeros && !at.is_finite() {
                    return None;
                }
                let at = self.settle(at, extent);
                let low = at.floor();
                let t = f64::from(at - low);
                Some(vec![(low as i64, 1.0 - t), (low as i64 + 1, t)])
            }
            GridSampleMode::Bicubic => {
                if !at.is_finite() {
                    return None;
                }
                // Neither the pixels far outside nor those of the border change where the point is brought near.
                let reflects = self.padding_mode == GridSamplePadding::Reflection;
                let at = if reflects { at } else { at.clamp(-4.0, extent as f32 + 4.0) };
                let low = at.floor();
                let t = f64::from(at - low);
                let weights = [1.0 + t, t, 1.0 - t, 2.0 - t].map(|x| crate::ops::resample::cubic(x, -0.75));
                let pixel = |k: usize| self.settle(low + k as f32 - 1.0, extent) as i64;
                Some((0..4).map(|k| (pixel(k), weights[k])).collect())
            }
        }
    }
}

params! {
    struct GridSampleParams {
        first_row: u32, rows: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32, channels: u32,
        x_origin: u32, grid_origin: u32, y_origin: u32, not_a_number: f32,
    }
}

impl Op for GridSample {
    fn name(&self) -> &'static str {
        "grid_sample"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new("grid_sample", inputs, reason);
        let [x, grid] = inputs else { return Err(wrong("wants an image and a grid")) };
        let &[batch, height, width, channels] = &x.shape[..] else {
            return Err(wrong("wants an image [N, H, W, C]"));
        };
        let &[grid_batch, rows, columns, 2] = &grid.shape[..] else {
            return Err(wrong("wants a grid [N, H', W', 2]"));
        };
        if !x.dtype.is_float() || grid.dtype != x.dtype && grid.dtype != DType::F32 {
            return Err(wrong("wants floats, and the grid in the image's type or f32"));
        }
        if batch != grid_batch {
            return Err(wrong("the image's batch and the grid's differ"));
        }
        if height == 0 || width == 0 || height > 1 << 24 || width > 1 << 24 {
            return Err(wrong("rows and columns of the image must be from 1 to 2^24"));
        }
        let shape = [batch, rows, columns, channels];
        let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        if elements.is_none_or(|elements| elements > u32::MAX as usize) {
            return Err(wrong("the result has more than 2^32 elements"));
        }
        Ok(vec![TensorDesc::new(shape, x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (x, grid) = (inputs[0], inputs[1]);
        let out = self.infer(&[x.desc(), grid.desc()])?.swap_remove(0);
        let (height, width, channels) = (x.shape()[1], x.shape()[2], x.shape()[3]);
        let (values, points) = (x.to_f64(), grid.to_f32());
        let plane = (out.shape[1] * out.shape[2]).max(1);
        let mut result = vec![0.0; out.len()];
        // An empty result has no pixels, so no pixel is of length 0.
        result.par_chunks_mut(channels.max(1)).enumerate().for_each(|(i, pixel)| {
            let image = i / plane * height * width;
            let rows = self.taps(points[2 * i + 1], height);
            let columns = self.taps(points[2 * i], width);
            let (Some(rows), Some(columns)) = (rows, columns) else {
                pixel.fill(f64::NAN);
                return;
            };
            for &(row, row_weight) in &rows {
                for &(column, weight) in &columns {
                    if !(0..height as i64).contains(&row) || !(0..width as i64).contains(&column) {
                        continue;
                    }
                    let at = (image + row as usize * width + column as usize) * channels;
                    let weight = row_weight * weight;
                    pixel.iter_mut().zip(&values[at..]).for_each(|(sum, v)| *sum += weight * v);
                }
            }
        });
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &result)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        let (first, channels) = (Some(0), Some(3));
        Independence::Axes(vec![Along::new([first, first], [first]), Along::new([channels], [channels])])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (x, grid, y) = (&io.inputs[0], &io.inputs[1], &io.outputs[0]);
        let lanes = lanes(x.last());
        let (in_height, out_height) = (x.shape[1], y.shape[1]);
        // A point may lie anywhere in its image.
        let reads = |line: usize| line / out_height * in_height..(line / out_height + 1) * in_height;
        let points =
            if grid.dtype == DType::F16 { shaders::SPATIAL_GRID_F16 } else { shaders::SPATIAL_GRID_F32 };
        let mut launch = Launch { name: "direct", ..Launch::default() };
        for slab in slabs::cut(Rows::of(x, 2), &[Rows::of(y, 2), Rows::of(grid, 2)], reads, tier)? {
            let (workgroup, groups) = groups(slab.rows.len() * y.shape[2] * y.last() / lanes, tier);
            let params = GridSampleParams {
                first_row: slab.rows.start as u32,
                rows: slab.rows.len() as u32,
                in_height: in_height as u32,
                in_width: x.shape[2] as u32,
                out_height: out_height as u32,
                out_width: y.shape[2] as u32,
                channels: (y.last() / lanes) as u32,
                x_origin: slabs::origin(&slab.x, x, lanes),
                grid_origin: slabs::origin(&slab.y[1], grid, 1),
                y_origin: slabs::origin(&slab.y[0], y, lanes),
                not_a_number: f32::NAN,
                ..Default::default()
            };
            let parts = [
                units::elem(x.dtype),
                points.clone(),
                shaders::GRID,
                lanes_unit(lanes),
                shaders::SPATIAL_GRID_SAMPLE,
            ];
            let kernel = Kernel::new(parts)
                .set("WORKGROUP", workgroup)
                .set("MODE", self.mode as u32)
                .set("PADDING_MODE", self.padding_mode as u32)
                .set("ALIGN_CORNERS", self.align_corners.into());
            let dispatch = Dispatch::new(kernel, params, groups);
            let dispatch = match slab.y[1].clone() {
                Some(range) => dispatch.bind_range("grid", Source::Input(1), range),
                None => dispatch.bind("grid", Source::Input(1)),
            };
            launch.dispatches.push(bind(dispatch, &slab));
        }
        Ok(vec![launch])
    }

    fn flops(&self, io: &Io) -> u64 {
        let taps = match self.mode {
            GridSampleMode::Nearest => 0,
            GridSampleMode::Bilinear => 4,
            GridSampleMode::Bicubic => 16,
        };
        2 * taps * io.outputs[0].len() as u64
    }
}

impl Builder {
    /// Samples `x` of shape `[N, H, W, C]` at the points of `grid` of shape `[N, H', W', 2]`.
    pub fn grid_sample(&mut self, x: Value, grid: Value, how: GridSample) -> Result<Value, GraphError> {
        self.op(how, &[x, grid])
    }
}

/// Cases: every mode, padding and alignment, points far outside, on pixels, between them, and no numbers at all.
pub fn cases() -> Vec<Case> {
    use GridSampleMode::{Bicubic, Bilinear, Nearest};
    use GridSamplePadding::{Border, Reflection, Zeros};
    let x = |shape: [usize; 4]| Fill::uniform(-1.0, 1.0).shape(shape);
    let points =
        |shape: [usize; 3]| Fill::uniform(-1.6, 1.6).shape([shape[0], shape[1], shape[2], 2]).keep_f32();
    let mut cases = Vec::new();
    for mode in [Bilinear, Nearest, Bicubic] {
        for padding_mode in [Zeros, Border, Reflection] {
            for align_corners in [false, true] {
                let how = GridSample { mode, padding_mode, align_corners };
                let case = |image, grid| Case::new(how, [x(image), points(grid)]);
                cases.push(case([2, 6, 7, 4], [2, 5, 4]));
                cases.push(case([1, 9, 5, 3], [1, 3, 31]).full());
                cases.push(case([1, 1, 3, 5], [1, 7, 2]).full());
                // Halves and quarters of pixels, exactly: ties, edges, and the pixels themselves.
                let steps =
                    (0..33).flat_map(|i| [f64::from(i) / 8.0 - 2.0, f64::from(i * 7 % 33) / 8.0 - 2.0]);
                let grid = Fill::given(DType::F32, steps.collect::<Vec<_>>()).shape([1, 3, 11, 2]);
                // Alignment changes which of them are which, not what happens to them.
                let exact = Case::new(how, [x([1, 4, 8, 4]), grid]);
                cases.push(if align_corners { exact.full() } else { exact });
            }
        }
    }
    let how = GridSample { mode: Bilinear, padding_mode: Zeros, align_corners: false };
    cases.push(Case::new(how, [x([1, 1, 1, 1]), points([1, 2, 3])]));
    cases.push(Case::new(how, [x([0, 3, 3, 4]), points([0, 2, 3])]));
    cases.push(Case::new(how, [x([2, 3, 3, 4]), points([2, 0, 3])]));
    // Far, but numbers.
    let far = [1e30, 0.0, -1e30, 0.25, 3e9, 0.1, 0.5, -7e8, 250.0, -250.0];
    // Not numbers: what becomes of them is said above. Where they give NaN a driver need not keep it, so no case asks.
    let wild =
        [f64::NAN, 0.0, f64::INFINITY, 0.25, f64::NEG_INFINITY, 0.1, 0.5, f64::NAN, 0.25, f64::INFINITY];
    for mode in [Bilinear, Nearest, Bicubic] {
        for padding_mode in [Zeros, Border, Reflection] {
            let how = GridSample { mode, padding_mode, align_corners: false };
            // A row of points and a column of points: cases are told apart by their shapes.
            let case = |points: &[f64], shape: [usize; 4]| {
                let grid = Fill::given(DType::F32, points).shape(shape).keep_f32();
                Case::new(how, [x([1, 3, 4, 4]), grid])
            };
            if padding_mode != Reflection {
                cases.push(case(&far, [1, 1, 5, 2]));
            }
            if mode == Nearest || mode == Bilinear && padding_mode != Zeros {
                cases.push(case(&wild, [1, 5, 1, 2]));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(how: GridSample, point: [f32; 2]) -> f32 {
        let x = Tensor::f32([1, 2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let grid = Tensor::f32([1, 1, 1, 2], point.to_vec()).unwrap();
        how.reference(&[&x, &grid]).unwrap()[0].to_f32()[0]
    }

    #[test]
    fn points_are_pytorchs() {
        let how = |mode, padding_mode, align_corners| GridSample { mode, padding_mode, align_corners };
        let zeros = how(GridSampleMode::Bilinear, GridSamplePadding::Zeros, false);
        assert_eq!(sample(zeros, [0.0, 0.0]), 2.5);
        assert_eq!(sample(zeros, [-1.0, -1.0]), 0.25);
        assert_eq!(sample(zeros, [9.0, 0.0]), 0.0);
        assert!(sample(zeros, [f32::NAN, 0.0]).is_nan());
        let aligned = how(GridSampleMode::Bilinear, GridSamplePadding::Border, true);
        assert_eq!(sample(aligned, [1.0, -1.0]), 2.0);
        assert_eq!(sample(aligned, [f32::INFINITY, f32::NAN]), 2.0);
        let mirrored = how(GridSampleMode::Nearest, GridSamplePadding::Reflection, false);
        assert_eq!(sample(mirrored, [1.25, -0.5]), 2.0);
        assert_eq!(sample(mirrored, [2.75, -0.5]), 1.0);
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let how = GridSample {
            mode: GridSampleMode::Bilinear,
            padding_mode: GridSamplePadding::Zeros,
            align_corners: false,
        };
        let infer = |x: &[usize], grid: &[usize]| {
            let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
            how.infer(&[desc(x), desc(grid)]).ok().map(|mut out| out.swap_remove(0).shape)
        };
        assert_eq!(infer(&[2, 3, 4, 5], &[2, 6, 7, 2]), Some(vec![2, 6, 7, 5]));
        assert_eq!(infer(&[2, 3, 4, 5], &[1, 6, 7, 2]), None);
        assert_eq!(infer(&[2, 3, 4, 5], &[2, 6, 7, 3]), None);
        assert_eq!(infer(&[2, 0, 4, 5], &[2, 6, 7, 2]), None);
        assert_eq!(infer(&[2, 3, 4], &[2, 6, 7, 2]), None);
    }
}
