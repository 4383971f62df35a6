//! Regions of feature maps, sampled to one size.

use kiln_shaders as shaders;
use rayon::prelude::*;

use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// Regions of images sampled to one size (He et al. 2017), as torchvision's `roi_align`: from images `[N, H, W, C]` and
/// regions `[K, 5]` of (image, left, top, right, bottom) to `[K, height, width, C]`. Each output pixel is the mean of
/// bilinear samples of its part of the region. A region of an image that does not exist gives zeros.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoiAlign {
    /// Height and width of the output.
    pub output_size: [usize; 2],
    /// Factor from the regions' coordinates to the images' pixels.
    pub spatial_scale: f32,
    /// Samples of an output pixel in each direction; 0 for as many as it covers pixels (at most 4096).
    pub sampling_ratio: usize,
    /// Whether coordinates are moved by half a pixel, so that pixel centres lie at half numbers.
    pub aligned: bool,
}

params! {
    struct RoiParams {
        len: u32, images: u32, height: u32, width: u32, channels: u32, out_height: u32, out_width: u32,
        sampling_ratio: u32, most_samples: u32, aligned: u32, scale: f32,
    }
}

/// Samples that a direction of an output pixel has at most: bounds the work of absurd regions.
const MOST_SAMPLES: usize = 4096;

/// Lower and higher pixel and the weight of the higher, for a place along an axis.
fn sample(place: f32, extent: usize) -> Option<(usize, usize, f64)> {
    if !place.is_finite() || place < -1.0 || place > extent as f32 {
        return None;
    }
    let place = place.max(0.0);
    let low = place as usize;
    if low + 1 >= extent {
        return Some((extent - 1, extent - 1, 0.0));
    }
    Some((low, low + 1, f64::from(place - low as f32)))
}

impl RoiAlign {
    fn samples(&self, size: f32) -> usize {
        match self.sampling_ratio {
            0 if !size.is_finite() || size <= 0.0 => 0,
            0 => size.ceil().min(MOST_SAMPLES as f32) as usize,
            n => n,
        }
    }

    /// One output pixel's samples along an axis: places from `start` in bins of `size`, in f32 as PyTorch has them.
    fn places(&self, start: f32, size: f32, bin: usize) -> Vec<f32> {
        let n = self.samples(size);
        (0..n).map(|i| start + bin as f32 * size + (i as f32 + 0.5) * size / n as f32).collect()
    }
}

impl Op for RoiAlign {
    fn name(&self) -> &'static str {
        "roi_align"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [x, rois] = inputs else { return Err(wrong("wants images and regions")) };
        if !x.dtype.is_float() || rois.dtype != x.dtype {
            return Err(wrong("wants images and regions of one floating-point type"));
        }
        let ([_, h, w, c], [k, 5]) = (&x.shape[..], &rois.shape[..]) else {
            return Err(wrong("wants images of shape [N, H, W, C] and regions of shape [K, 5]"));
        };
        if *h == 0 || *w == 0 {
            return Err(wrong("wants images with pixels"));
        }
        if self.sampling_ratio > MOST_SAMPLES || self.output_size.contains(&0) {
            return Err(wrong("wants an output with pixels and at most 4096 samples"));
        }
        let [out_h, out_w] = self.output_size;
        Ok(vec![TensorDesc::new([*k, out_h, out_w, *c], x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0);
        let &[images, h, w, c] = inputs[0].shape() else { return Ok(vec![Tensor::zeros(&out)]) };
        let (x, rois) = (inputs[0].to_f64(), inputs[1].to_f32());
        let [out_h, out_w] = self.output_size;
        let offset = if self.aligned { 0.5 } else { 0.0 };
        let mut values = vec![0.0; out.len()];
        values.par_chunks_mut(c.max(1)).enumerate().for_each(|(pixel, y)| {
            let roi = &rois[pixel / (out_h * out_w) * 5..][..5];
            if !(roi[0] >= 0.0 && roi[0] < images as f32) {
                return;
            }
            let [left, top, right, bottom] = [1, 2, 3, 4].map(|i| roi[i] * self.spatial_scale - offset);
            let side = |low: f32, high: f32| if self.aligned { high - low } else { (high - low).max(1.0) };
            let (bin_h, bin_w) = (side(top, bottom) / out_h as f32, side(left, right) / out_w as f32);
            let rows = self.places(top, bin_h, pixel / out_w % out_h);
            let columns = self.places(left, bin_w, pixel % out_w);
            let start = roi[0] as usize * h * w;
            for (y0, y1, v) in rows.iter().filter_map(|&place| sample(place, h)) {
                for (x0, x1, u) in columns.iter().filter_map(|&place| sample(place, w)) {
                    let corners = [
                        (y0, x0, (1.0 - v) * (1.0 - u)),
                        (y0, x1, (1.0 - v) * u),
                        (y1, x0, v * (1.0 - u)),
                        (y1, x1, v * u),
                    ];
                    for (row, column, weight) in corners {
                        let x = &x[(start + row * w + column) * c..][..c];
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
                    }
                }
            }
            let count = (rows.len() * columns.len()).max(1) as f64;
            y.iter_mut().for_each(|y| *y /= count);
        });
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &values)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        let (regions, channels) = (Along::new([None, Some(0)], [Some(0)]), Along::new([Some(3)], [Some(3)]));
        Independence::Axes(vec![regions, channels])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (x, out) = (&io.inputs[0], &io.outputs[0]);
        let vec4 = x.last().is_multiple_of(4);
        let len = out.len() / if vec4 { 4 } else { 1 };
        let params = RoiParams {
            len: len as u32,
            images: x.shape[0] as u32,
            height: x.shape[1] as u32,
            width: x.shape[2] as u32,
            channels: x.shape[3] as u32,
            out_height: self.output_size[0] as u32,
            out_width: self.output_size[1] as u32,
            sampling_ratio: self.sampling_ratio as u32,
            most_samples: MOST_SAMPLES as u32,
            aligned: self.aligned.into(),
            scale: self.spatial_scale,
            ..Default::default()
        };
        let workgroup = 64.min(tier.limits.max_invocations);
        let units =
            [units::elem(x.dtype), units::load(vec4), units::store(vec4), shaders::GRID, shaders::ROI_ALIGN];
        let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
        let dispatch = Dispatch::new(kernel, params, (len as u64).div_ceil(workgroup.into()))
            .bind("x", Source::Input(0))
            .bind("rois", Source::Input(1))
            .bind("y", Source::Output(0));
        Ok(vec![Launch::one("pixels", dispatch)])
    }

    fn flops(&self, io: &Io) -> u64 {
        let samples =
            if self.sampling_ratio == 0 { 4 } else { (self.sampling_ratio * self.sampling_ratio) as u64 };
        io.outputs.iter().map(|out| 8 * samples * out.len() as u64).sum()
    }
}

impl Builder {
    /// Regions `rois`, `[K, 5]`, of images `x`, `[N, H, W, C]`, sampled to one size.
    pub fn roi_align(&mut self, x: Value, rois: Value, op: RoiAlign) -> Result<Value, GraphError> {
        self.op(op, &[x, rois])
    }
}

/// Cases: both alignments, fixed and adaptive samples, regions that leave the image, images that do not exist.
pub fn cases() -> Vec<Case> {
    let align = |output_size, spatial_scale, sampling_ratio, aligned| RoiAlign {
        output_size,
        spatial_scale,
        sampling_ratio,
        aligned,
    };
    let regions = || {
        let values = [
            [0.0, 1.0, 2.0, 9.5, 12.25],
            [1.0, 4.5, 0.0, 5.0, 19.0],
            [0.0, -6.0, -3.0, 30.0, 25.0],
            [1.0, 10.0, 10.0, 8.0, 7.0],
            [2.0, 1.0, 1.0, 5.0, 5.0],
            [-1.0, 1.0, 1.0, 5.0, 5.0],
        ];
        Fill::given(DType::F32, values.concat()).shape([6, 5])
    };
    let case = |op, x: [usize; 4]| Case::new(op, [Fill::uniform(-2.0, 2.0).shape(x), regions()]);
    let mut cases = vec![
        case(align([7, 7], 1.0, 0, false), [2, 20, 24, 3]),
        case(align([7, 7], 0.25, 2, true), [2, 20, 24, 8]),
        case(align([2, 3], 0.5, 0, true), [2, 20, 24, 4]),
        case(align([5, 5], 0.5, 3, false), [2, 9, 11, 5]),
        case(align([1, 1], 1.0, 1, true), [2, 20, 24, 33]),
        case(align([3, 2], 1.0, 0, true), [2, 1, 1, 4]),
    ];
    let none = Fill::given(DType::F32, []).shape([0, 5]);
    cases.push(Case::new(align([2, 2], 1.0, 0, true), [Fill::uniform(0.0, 1.0).shape([1, 3, 3, 2]), none]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_image_gives_its_pixels() {
        let x = Tensor::f32([1, 2, 2, 1], vec![1., 2., 3., 4.]).unwrap();
        let rois = Tensor::f32([1, 5], vec![0., 0., 0., 2., 2.]).unwrap();
        let op = RoiAlign { output_size: [2, 2], spatial_scale: 1.0, sampling_ratio: 0, aligned: true };
        assert_eq!(op.reference(&[&x, &rois]).unwrap()[0].as_f32(), Some(&[1., 2., 3., 4.][..]));
        let rois = Tensor::f32([1, 5], vec![0., f32::NAN, 0., f32::INFINITY, 2.]).unwrap();
        assert_eq!(op.reference(&[&x, &rois]).unwrap()[0].as_f32(), Some(&[0.; 4][..]));
    }

    #[test]
    fn shapes_must_fit() {
        let op = RoiAlign { output_size: [2, 3], spatial_scale: 1.0, sampling_ratio: 0, aligned: true };
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        assert_eq!(op.infer(&[desc(&[1, 5, 6, 7]), desc(&[9, 5])]).unwrap()[0].shape, [9, 2, 3, 7]);
        assert!(op.infer(&[desc(&[1, 5, 6, 7]), desc(&[9, 4])]).is_err());
        assert!(op.infer(&[desc(&[1, 0, 6, 7]), desc(&[9, 5])]).is_err());
        assert!(op.infer(&[desc(&[5, 6, 7]), desc(&[9, 5])]).is_err());
    }
}
