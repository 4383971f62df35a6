//! Resizing of images, as PyTorch's `torch.nn.functional.interpolate`.

mod axis;
mod nearest;

use crate::ops::resample::{self, Taps};
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value,
};
use axis::Axis;

/// How pixels between pixels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterpolateMode {
    /// The pixel at `floor(i * scale)`.
    Nearest,
    /// The pixel whose centre is nearest: `floor((i + 0.5) * scale)`.
    NearestExact,
    /// Two pixels along each axis.
    Bilinear,
    /// Four pixels along each axis by cubic convolution (Keys 1981), `a = -0.75`; `a = -0.5` with antialiasing.
    Bicubic,
    /// The mean of the pixels that an output pixel covers; adaptive average pooling.
    Area,
}

/// What the output's extents are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InterpolateTo {
    /// Rows and columns.
    Size([usize; 2]),
    /// Factors of rows and columns. Extents are rounded down.
    ScaleFactor {
        /// The factors.
        factor: [f64; 2],
        /// Whether coordinates follow from the extents rather than from the factors as given.
        recompute: bool,
    },
}

/// Resizes `x` of shape `[N, H, W, C]` to `[N, H', W', C]`.
///
/// The nearest kinds move elements of any type; the others compute on floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interpolate {
    /// How pixels between pixels are made.
    pub mode: InterpolateMode,
    /// Output extents.
    pub to: InterpolateTo,
    /// Whether the centres of the corner pixels stay where they are; else the image's corners do.
    pub align_corners: bool,
    /// Whether the filter widens with the scale when the image shrinks. Bilinear and bicubic only.
    pub antialias: bool,
}

impl Interpolate {
    /// To this many rows and columns.
    pub fn size(mode: InterpolateMode, size: [usize; 2]) -> Self {
        Self { mode, to: InterpolateTo::Size(size), align_corners: false, antialias: false }
    }

    /// By these factors, which also decide the coordinates.
    pub fn scale_factor(mode: InterpolateMode, factor: [f64; 2]) -> Self {
        let to = InterpolateTo::ScaleFactor { factor, recompute: false };
        Self { mode, to, align_corners: false, antialias: false }
    }

    /// The same with coordinates computed from the extents, whatever factors were given.
    pub fn recompute_scale_factor(mut self) -> Self {
        if let InterpolateTo::ScaleFactor { recompute, .. } = &mut self.to {
            *recompute = true;
        }
        self
    }

    /// The same with aligned corners.
    pub fn align_corners(mut self) -> Self {
        self.align_corners = true;
        self
    }

    /// The same with antialiasing.
    pub fn antialias(mut self) -> Self {
        self.antialias = true;
        self
    }

    fn moves(&self) -> bool {
        matches!(self.mode, InterpolateMode::Nearest | InterpolateMode::NearestExact)
    }

    /// Rows and columns of an input of this shape, with what decides their coordinates.
    fn axes(&self, inputs: &[TensorDesc]) -> Result<[Axis; 2], OpError> {
        let wrong = |reason: &str| OpError::new("interpolate", inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input")) };
        let &[_, height, width, _] = &x.shape[..] else {
            return Err(wrong("wants an image [N, H, W, C]"));
        };
        if !self.moves() && !x.dtype.is_float() {
            return Err(wrong("computes on floats; only the nearest kinds move other types"));
        }
        let smooth = matches!(self.mode, InterpolateMode::Bilinear | InterpolateMode::Bicubic);
        if (self.align_corners || self.antialias) && !smooth {
            return Err(wrong("corners are aligned and antialiasing is done by bilinear and bicubic alone"));
        }
        let input = [height, width];
        let (output, factor) = match self.to {
            InterpolateTo::Size(size) => (size, [None; 2]),
            InterpolateTo::ScaleFactor { factor, recompute } => {
                if factor.iter().any(|factor| !factor.is_finite() || *factor <= 0.0) {
                    return Err(wrong("factors must be positive"));
                }
                // Casts saturate, and the bound below refuses what did.
                let size = [0, 1].map(|i| (input[i] as f64 * factor[i]).floor() as usize);
                (size, if recompute { [None; 2] } else { factor.map(Some) })
            }
        };
        if input.iter().chain(&output).any(|&extent| extent == 0) {
            return Err(wrong("rows and columns of input and output must not be 0"));
        }
        // 2^24: beyond it f32 cannot count pixels, and neither can PyTorch's coordinates.
        if input.iter().chain(&output).any(|&extent| extent > 1 << 24) {
            return Err(wrong("has more than 2^24 rows or columns"));
        }
        Ok([0, 1].map(|i| Axis { input: input[i], output: output[i], factor: factor[i] }))
    }

    fn taps(&self, axes: [Axis; 2]) -> [Vec<Taps>; 2] {
        axes.map(|axis| axis.taps(self.mode, self.align_corners, self.antialias))
    }

    /// Whole factors of rows and columns where the result is the input with every pixel repeated: what a convolution
    /// that follows can do in its addressing.
    pub fn repeats(&self, x: &TensorDesc) -> Option<[usize; 2]> {
        let axes = self.axes(std::slice::from_ref(x)).ok().filter(|_| self.moves())?;
        let mut factors = [1; 2];
        for (factor, axis) in factors.iter_mut().zip(&axes) {
            *factor = axis.output / axis.input;
            let sources = axis.nearest(self.mode == InterpolateMode::NearestExact);
            let repeats = sources.iter().enumerate().all(|(i, &source)| i / (*factor).max(1) == source);
            if !axis.output.is_multiple_of(axis.input) || !repeats {
                return None;
            }
        }
        Some(factors)
    }
}

impl Op for Interpolate {
    fn name(&self) -> &'static str {
        "interpolate"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let [rows, columns] = self.axes(inputs)?;
        let (batch, channels) = (inputs[0].shape[0], inputs[0].shape[3]);
        let shape = [batch, rows.output, columns.output, channels];
        let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        if elements.is_none_or(|elements| elements > u32::MAX as usize) {
            return Err(OpError::new(self.name(), inputs, "the result has more than 2^32 elements"));
        }
        Ok(vec![TensorDesc::new(shape, inputs[0].dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let descs = [x.desc()];
        let [rows, columns] = self.axes(&descs)?;
        let out = self.infer(&descs)?.swap_remove(0);
        let channels = out.shape[3];
        let x_row = columns.input * channels;
        if self.moves() {
            let exact = self.mode == InterpolateMode::NearestExact;
            let (from_rows, from_columns) = (rows.nearest(exact), columns.nearest(exact));
            let source = |i: usize| {
                let (pixel, channel) = (i / channels, i % channels);
                let (line, column) = (pixel / columns.output, pixel % columns.output);
                let row = line / rows.output * rows.input + from_rows[line % rows.output];
                Some(row * x_row + from_columns[column] * channels + channel)
            };
            return Ok(vec![x.pick(out.shape.clone(), (0..out.len()).map(source))?]);
        }
        let [rows, columns] = self.taps([rows, columns]);
        Ok(vec![resample::reference(x, &rows, &columns)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[1, 2])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let axes = self.axes(&io.inputs[..1])?;
        if self.moves() {
            return nearest::launches(self, &axes, io, tier);
        }
        let [rows, columns] = self.taps(axes);
        resample::launches(&io.inputs[0], &io.outputs[0], &rows, &columns, tier)
    }

    fn flops(&self, io: &Io) -> u64 {
        match self.axes(&io.inputs[..1]) {
            Ok(axes) if !self.moves() => {
                let [rows, columns] = self.taps(axes);
                resample::flops(io.outputs[0].shape[0] * io.outputs[0].last(), &rows, &columns)
            }
            _ => 0,
        }
    }
}

impl Builder {
    /// Resizes `x` of shape `[N, H, W, C]`.
    pub fn interpolate(&mut self, x: Value, how: Interpolate) -> Result<Value, GraphError> {
        self.op(how, &[x])
    }

    /// Doubles rows and columns of `x` of shape `[N, H, W, C]` by repeating pixels.
    pub fn upsample_nearest_2x(&mut self, x: Value) -> Result<Value, GraphError> {
        self.op(Interpolate::scale_factor(InterpolateMode::Nearest, [2.0, 2.0]), &[x])
    }
}

/// Cases: every mode and option, up, down, by odd factors, and extents of 0 and 1.
pub fn cases() -> Vec<Case> {
    use InterpolateMode::{Area, Bicubic, Bilinear, Nearest, NearestExact};
    let float = |how: Interpolate, shape: [usize; 4]| Case::new(how, [Fill::uniform(-1.0, 1.0).shape(shape)]);
    let moved = |how, shape| float(how, shape).exact();
    let mut cases = Vec::new();
    for mode in [Nearest, NearestExact] {
        cases.push(moved(Interpolate::scale_factor(mode, [2.0, 2.0]), [2, 7, 5, 8]));
        cases.push(moved(Interpolate::size(mode, [17, 3]), [1, 7, 5, 3]));
        cases.push(moved(Interpolate::size(mode, [33, 31]), [2, 31, 33, 4]));
        cases.push(moved(Interpolate::scale_factor(mode, [1.5, 0.7]), [1, 9, 13, 5]));
        cases.push(
            moved(Interpolate::scale_factor(mode, [1.5, 0.7]).recompute_scale_factor(), [1, 9, 13, 5]).full(),
        );
    }
    cases.push(moved(Interpolate::scale_factor(Nearest, [3.0, 2.0]), [1, 5, 3, 3]));
    cases.push(moved(Interpolate::size(Nearest, [4, 4]), [0, 2, 2, 4]));
    cases.push(moved(Interpolate::size(Nearest, [3, 4]), [1, 1, 1, 1]));
    let integers = Fill::typed(DType::I32, -1_000_000_000, 1_000_000_000);
    cases.push(
        Case::new(Interpolate::size(Nearest, [5, 9]), [integers.shape([1, 3, 4, 3])]).exact().f32_only(),
    );
    for mode in [Bilinear, Bicubic] {
        for size in [[10, 14], [17, 3], [1, 1]] {
            let how = Interpolate::size(mode, size);
            cases.push(float(how, [2, 5, 7, 4]));
            cases.push(float(how.align_corners(), [2, 5, 7, 3]));
        }
        cases.push(float(Interpolate::scale_factor(mode, [1.5, 0.7]), [1, 9, 13, 5]));
        cases.push(float(Interpolate::size(mode, [3, 4]), [1, 1, 1, 8]));
        cases.push(float(Interpolate::size(mode, [5, 6]).antialias(), [1, 12, 16, 8]));
        cases.push(float(Interpolate::size(mode, [9, 5]).antialias().align_corners(), [1, 4, 31, 3]));
        for how in [
            Interpolate::scale_factor(mode, [2.0, 0.6]).recompute_scale_factor(),
            Interpolate::scale_factor(mode, [1.1, 1.0]),
            Interpolate::scale_factor(mode, [0.4, 0.3]).antialias(),
            Interpolate::size(mode, [65, 64]),
            Interpolate::size(mode, [7, 127]).antialias(),
        ] {
            cases.push(float(how, [1, 8, 65, 4]).full());
            cases.push(float(how, [2, 7, 33, 7]).full());
        }
    }
    // Many taps: summed in two passes.
    cases.push(float(Interpolate::size(Bilinear, [4, 7]).antialias(), [2, 63, 128, 4]));
    cases.push(float(Interpolate::size(Bicubic, [3, 40]).antialias(), [1, 129, 33, 3]));
    for (size, shape) in [([3, 4], [1, 9, 11, 8]), ([7, 7], [2, 5, 13, 3]), ([1, 1], [1, 31, 33, 4])] {
        cases.push(float(Interpolate::size(Area, size), shape));
    }
    cases.push(float(Interpolate::size(Bilinear, [4, 4]), [2, 3, 3, 0]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(how: Interpolate, shape: &[usize]) -> Option<Vec<usize>> {
        how.infer(&[TensorDesc::new(shape, DType::F32)]).ok().map(|mut out| out.swap_remove(0).shape)
    }

    #[test]
    fn extents_follow_from_sizes_and_factors() {
        let how = Interpolate::scale_factor(InterpolateMode::Bilinear, [1.5, 0.7]);
        assert_eq!(infer(how, &[2, 9, 13, 5]), Some(vec![2, 13, 9, 5]));
        assert_eq!(
            infer(Interpolate::size(InterpolateMode::Area, [3, 4]), &[0, 9, 13, 5]),
            Some(vec![0, 3, 4, 5])
        );
    }

    #[test]
    fn what_cannot_be_resized_is_refused() {
        let nearest = |size| Interpolate::size(InterpolateMode::Nearest, size);
        assert_eq!(infer(nearest([0, 4]), &[1, 2, 2, 1]), None);
        assert_eq!(infer(nearest([4, 4]), &[1, 0, 2, 1]), None);
        assert_eq!(infer(nearest([4, 4]), &[1, 2, 2]), None);
        assert_eq!(infer(nearest([4, 4]).align_corners(), &[1, 2, 2, 1]), None);
        assert_eq!(infer(Interpolate::size(InterpolateMode::Area, [4, 4]).antialias(), &[1, 2, 2, 1]), None);
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e30, 0.1] {
            let how = Interpolate::scale_factor(InterpolateMode::Nearest, [factor, 1.0]);
            assert_eq!(infer(how, &[1, 2, 2, 1]), None, "{factor}");
        }
        let how = Interpolate::size(InterpolateMode::Bilinear, [4, 4]);
        assert!(how.infer(&[TensorDesc::new([1, 2, 2, 1], DType::I32)]).is_err());
    }

    #[test]
    fn bilinear_halves_between_pixels() {
        let x = Tensor::f32([1, 1, 2, 1], vec![0.0, 4.0]).unwrap();
        let y = Interpolate::size(InterpolateMode::Bilinear, [1, 4]).reference(&[&x]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[0.0, 1.0, 3.0, 4.0][..]));
    }

    #[test]
    fn whole_factors_of_nearest_repeat() {
        let x = TensorDesc::new([1, 3, 5, 2], DType::F32);
        let repeats = |how: Interpolate| how.repeats(&x);
        assert_eq!(repeats(Interpolate::scale_factor(InterpolateMode::Nearest, [2.0, 3.0])), Some([2, 3]));
        assert_eq!(repeats(Interpolate::size(InterpolateMode::NearestExact, [3, 10])), Some([1, 2]));
        assert_eq!(repeats(Interpolate::size(InterpolateMode::Nearest, [3, 11])), None);
        assert_eq!(repeats(Interpolate::size(InterpolateMode::Bilinear, [6, 10])), None);
    }
}
