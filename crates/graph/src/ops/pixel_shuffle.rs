//! Channels to pixels and back, as `torch.nn.functional.pixel_shuffle` and `pixel_unshuffle`.

use kiln_shaders as shaders;

use crate::ops::slabs::{self, Rows};
use crate::ops::spatial::{bind, groups};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Io, Kernel, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value,
    params,
};

/// Makes pixels of channels: `x` of shape `[N, H, W, C * r * r]` becomes `[N, H * r, W * r, C]` (Shi et al. 2016,
/// sub-pixel convolution). Channel `c * r * r + i * r + j` goes to row `i` and column `j` of its block.
///
/// Moves elements of any type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PixelShuffle {
    /// `r`: rows and columns of a block.
    pub upscale_factor: usize,
}

/// Makes channels of pixels, the inverse of [`PixelShuffle`]: `x` of shape `[N, H * r, W * r, C]` becomes
/// `[N, H, W, C * r * r]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PixelUnshuffle {
    /// `r`: rows and columns of a block.
    pub downscale_factor: usize,
}

/// Either direction. The small image has rows, columns and `C * r * r` channels; the large one is `r` times as large.
struct Blocks {
    shuffle: bool,
    r: usize,
    /// The small image's shape.
    small: [usize; 4],
}

params! {
    struct ShuffleParams {
        first_row: u32, rows: u32, width: u32, channels: u32, r: u32, x_origin: u32, y_origin: u32,
    }
}

impl Blocks {
    fn of(shuffle: bool, r: usize, inputs: &[TensorDesc]) -> Result<Self, OpError> {
        let name = if shuffle { "pixel_shuffle" } else { "pixel_unshuffle" };
        let wrong = |reason: &str| OpError::new(name, inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input")) };
        let &[n, h, w, c] = &x.shape[..] else { return Err(wrong("wants an image [N, H, W, C]")) };
        let area =
            r.checked_mul(r).filter(|&area| area > 0).ok_or_else(|| wrong("the factor must be positive"))?;
        let small = if shuffle {
            if !c.is_multiple_of(area) {
                return Err(wrong("the channels must be a multiple of the factor's square"));
            }
            [n, h, w, c]
        } else {
            if !h.is_multiple_of(r) || !w.is_multiple_of(r) {
                return Err(wrong("rows and columns must be multiples of the factor"));
            }
            // An image without elements may have any factor.
            let channels = c.checked_mul(area).filter(|&channels| channels <= u32::MAX as usize);
            [n, h / r, w / r, channels.ok_or_else(|| wrong("the factor is too large"))?]
        };
        if r > u32::MAX as usize || h.checked_mul(r).is_none() || w.checked_mul(r).is_none() {
            return Err(wrong("the factor is too large"));
        }
        Ok(Self { shuffle, r, small })
    }

    fn output(&self, dtype: DType) -> TensorDesc {
        let [n, h, w, c] = self.small;
        let r = self.r;
        let shape = if self.shuffle { [n, h * r, w * r, c / (r * r)] } else { self.small };
        TensorDesc::new(shape, dtype)
    }

    fn reference(&self, x: &Tensor) -> Result<Tensor, OpError> {
        let out = self.output(x.dtype());
        let [_, _, width, deep] = self.small;
        let (r, channels) = (self.r, deep / (self.r * self.r));
        let source = |i: usize| {
            if self.shuffle {
                let (pixel, c) = (i / channels, i % channels);
                let (line, column) = (pixel / (width * r), pixel % (width * r));
                let from = line / r * width + column / r;
                Some(from * deep + (c * r + line % r) * r + column % r)
            } else {
                let (pixel, k) = (i / deep, i % deep);
                let (line, column) = (pixel / width, pixel % width);
                let from = (line * r + k / r % r) * width * r + column * r + k % r;
                Some(from * channels + k / (r * r))
            }
        };
        Ok(x.pick(out.shape.clone(), (0..out.len()).map(source))?)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (x, y) = (&io.inputs[0], &io.outputs[0]);
        let [_, _, width, deep] = self.small;
        let r = self.r;
        // Rows are the small image's: a row of blocks.
        let lines = self.small[0] * self.small[1];
        let row = |desc: &TensorDesc| Rows { count: lines, bytes: (desc.bytes() / lines.max(1)) as u64 };
        let file =
            if self.shuffle { shaders::SPATIAL_PIXEL_SHUFFLE } else { shaders::SPATIAL_PIXEL_UNSHUFFLE };
        let mut launch = Launch { name: "move", ..Launch::default() };
        for slab in slabs::cut(row(x), &[row(y)], |line| line..line + 1, tier)? {
            let (workgroup, groups) = groups(slab.rows.len() * width * deep, tier);
            let params = ShuffleParams {
                first_row: slab.rows.start as u32,
                rows: slab.rows.len() as u32,
                width: width as u32,
                channels: (deep / (r * r)) as u32,
                r: r as u32,
                x_origin: slabs::origin(&slab.x, x, 1),
                y_origin: slabs::origin(&slab.y[0], y, 1),
                ..Default::default()
            };
            let parts = [units::elem(x.dtype), shaders::GRID, file.clone()];
            let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
            launch.dispatches.push(bind(Dispatch::new(kernel, params, groups), &slab));
        }
        Ok(vec![launch])
    }
}

impl Op for PixelShuffle {
    fn name(&self) -> &'static str {
        "pixel_shuffle"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        Ok(vec![Blocks::of(true, self.upscale_factor, inputs)?.output(inputs[0].dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![Blocks::of(true, self.upscale_factor, &[inputs[0].desc()])?.reference(inputs[0])?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        Blocks::of(true, self.upscale_factor, &io.inputs[..1])?.launches(io, tier)
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Op for PixelUnshuffle {
    fn name(&self) -> &'static str {
        "pixel_unshuffle"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        Ok(vec![Blocks::of(false, self.downscale_factor, inputs)?.output(inputs[0].dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![Blocks::of(false, self.downscale_factor, &[inputs[0].desc()])?.reference(inputs[0])?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        Blocks::of(false, self.downscale_factor, &io.inputs[..1])?.launches(io, tier)
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// `[N, H, W, C * r * r]` to `[N, H * r, W * r, C]`.
    pub fn pixel_shuffle(&mut self, x: Value, upscale_factor: usize) -> Result<Value, GraphError> {
        self.op(PixelShuffle { upscale_factor }, &[x])
    }

    /// `[N, H * r, W * r, C]` to `[N, H, W, C * r * r]`.
    pub fn pixel_unshuffle(&mut self, x: Value, downscale_factor: usize) -> Result<Value, GraphError> {
        self.op(PixelUnshuffle { downscale_factor }, &[x])
    }
}

/// Cases: both directions, odd channels and extents, integers, nothing at all.
pub fn cases() -> Vec<Case> {
    let floats = |shape: [usize; 4]| Fill::uniform(-1.0, 1.0).shape(shape);
    let mut cases = Vec::new();
    for (r, [n, h, w, c]) in [
        (2, [2, 3, 5, 3]),
        (3, [1, 2, 4, 2]),
        (4, [1, 3, 3, 1]),
        (2, [1, 7, 9, 8]),
        (1, [1, 2, 3, 5]),
        (2, [0, 3, 3, 4]),
    ] {
        let shuffle = PixelShuffle { upscale_factor: r };
        cases.push(Case::new(shuffle, [floats([n, h, w, c * r * r])]).exact());
        let unshuffle = PixelUnshuffle { downscale_factor: r };
        cases.push(Case::new(unshuffle, [floats([n, h * r, w * r, c])]).exact());
    }
    let integers = Fill::typed(DType::I32, -1_000_000_000, 1_000_000_000).shape([1, 2, 3, 8]);
    cases.push(Case::new(PixelShuffle { upscale_factor: 2 }, [integers]).exact().f32_only());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_pytorchs() {
        let x = Tensor::i32([1, 1, 1, 8], (0..8).collect()).unwrap();
        let y = PixelShuffle { upscale_factor: 2 }.reference(&[&x]).unwrap().swap_remove(0);
        assert_eq!(y.shape(), [1, 2, 2, 2]);
        assert_eq!(y.as_i32(), Some(&[0, 4, 1, 5, 2, 6, 3, 7][..]));
        assert_eq!(PixelUnshuffle { downscale_factor: 2 }.reference(&[&y]).unwrap()[0], x);
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        let infer = |op: &dyn Op, shape: &[usize]| op.infer(&[TensorDesc::new(shape, DType::F32)]).is_ok();
        assert!(infer(&PixelShuffle { upscale_factor: 2 }, &[1, 3, 3, 8]));
        assert!(!infer(&PixelShuffle { upscale_factor: 2 }, &[1, 3, 3, 6]));
        assert!(!infer(&PixelShuffle { upscale_factor: 0 }, &[1, 3, 3, 6]));
        assert!(!infer(&PixelShuffle { upscale_factor: usize::MAX }, &[1, 3, 3, 6]));
        assert!(!infer(&PixelUnshuffle { downscale_factor: 2 }, &[1, 3, 4, 6]));
        assert!(!infer(&PixelUnshuffle { downscale_factor: 1 << 40 }, &[1, 0, 0, 6]));
        assert!(!infer(&PixelUnshuffle { downscale_factor: 2 }, &[3, 4, 6]));
    }
}
