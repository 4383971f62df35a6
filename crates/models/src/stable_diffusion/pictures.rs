//! Pictures and masks as tensors, and back.

use kiln_graph::{GraphError, Tensor};

use crate::Error;
use crate::image::{Filter, Picture, resize};

/// A picture at `[height, width]` as an autoencoder takes it: `[1, height, width, 3]` in -1..1.
pub(super) fn pixels(picture: &Picture, size: [usize; 2]) -> Result<Tensor, Error> {
    Ok(resized(picture, size).to_image().map_err(GraphError::from)?)
}

/// A picture at `[height, width]`.
pub(crate) fn resized(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    if (picture.height, picture.width) == (height, width) {
        return picture.clone();
    }
    resize(picture, width, height, Filter::Lanczos)
}

/// What of a picture is to change.
pub(crate) struct Opening {
    size: [usize; 2],
    open: Vec<bool>,
}

/// The half of a mask that is brighter, at `[height, width]`.
pub(crate) fn mask(mask: &Picture, size: [usize; 2]) -> Opening {
    let mask = resized(mask, size);
    let grey = |pixel: &[u8]| {
        // PIL's "L", in 16-bit fixed point.
        let weighed =
            pixel.iter().zip([19595, 38470, 7471]).map(|(&value, weight)| u32::from(value) * weight);
        (weighed.sum::<u32>() + 0x8000) >> 16
    };
    Opening { size, open: mask.rgb.chunks_exact(3).map(|pixel| grey(pixel) >= 128).collect() }
}

impl Opening {
    /// Whether each pixel is to change, row by row.
    pub fn pixels(&self) -> &[bool] {
        &self.open
    }

    /// 1 where latents of this height and width change and 0 where they stay, by the nearest pixel: `[1, height, width, 1]`.
    pub fn latents(&self, [height, width, _]: [usize; 3]) -> Result<Tensor, Error> {
        let [rows, columns] = self.size;
        let mut values = Vec::with_capacity(height * width);
        for y in 0..height {
            for x in 0..width {
                let at = (y * rows / height) * columns + x * columns / width;
                values.push(f32::from(u8::from(self.open.get(at) == Some(&true))));
            }
        }
        tensor([1, height, width, 1], values)
    }

    /// Pixels `[1, height, width, 3]` with grey where they are to change.
    pub fn hide(&self, pixels: &Tensor) -> Result<Tensor, Error> {
        let mut values = pixels.to_f32().into_owned();
        for (pixel, _) in values.chunks_exact_mut(3).zip(&self.open).filter(|(_, open)| **open) {
            pixel.fill(0.0);
        }
        tensor(pixels.shape().to_vec(), values)
    }
}

/// A mask `[1, height, width, 1]` before the channels of images `[batch, height, width, channels]`.
pub(super) fn beside(mask: &Tensor, images: &Tensor) -> Result<Tensor, Error> {
    let mut shape = images.shape().to_vec();
    let channels = shape.last().copied().unwrap_or(0);
    if let Some(last) = shape.last_mut() {
        *last += 1;
    }
    let (mask, images) = (mask.to_f32(), images.to_f32());
    let pixels = images.chunks_exact(channels.max(1)).zip(mask.iter().cycle());
    tensor(shape, pixels.flat_map(|(pixel, open)| std::iter::once(open).chain(pixel).copied()).collect())
}

/// A mask `[1, height, width, 1]` for every channel of latents: `[1, height, width, channels]`.
pub(super) fn every_channel(mask: &Tensor, channels: usize) -> Result<Tensor, Error> {
    let mut shape = mask.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = channels;
    }
    tensor(shape, mask.to_f32().iter().flat_map(|&open| std::iter::repeat_n(open, channels)).collect())
}

fn tensor(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Tensor, Error> {
    Ok(Tensor::f32(shape, values).map_err(GraphError::from)?)
}
