//! Processed pictures as one batch.

use kiln_graph::{LengthError, Tensor};

/// Height and width of `pixel_values` `[1, 3, height, width]`.
pub(crate) fn size(pixels: &Tensor) -> [usize; 2] {
    match *pixels.shape() {
        [_, _, height, width] => [height, width],
        _ => [0; 2],
    }
}

/// Processed pictures `[1, 3, height, width]` at the top left of a batch `[batch, height, width, 3]`; what they do not fill
/// is zeros.
pub(crate) fn batch(
    pixels: &[&Tensor],
    batch: usize,
    [height, width]: [usize; 2],
) -> Result<Tensor, LengthError> {
    let mut values = vec![0.0; batch * height * width * 3];
    for (picture, out) in pixels.iter().zip(values.chunks_exact_mut((height * width * 3).max(1))) {
        let [rows, columns] = size(picture);
        for (channel, plane) in picture.to_f32().chunks_exact((rows * columns).max(1)).take(3).enumerate() {
            for (row, line) in plane.chunks_exact(columns.max(1)).take(height).enumerate() {
                for (column, &value) in line.iter().take(width).enumerate() {
                    out[(row * width + column) * 3 + channel] = value;
                }
            }
        }
    }
    Tensor::f32([batch, height, width, 3], values)
}

/// Where such a batch shows a picture: `[batch, height, width]`. Images that no picture fills are shown whole, so that
/// nothing is computed of an image without a pixel.
pub(crate) fn mask(
    pixels: &[&Tensor],
    batch: usize,
    [height, width]: [usize; 2],
) -> Result<Tensor, LengthError> {
    let mut values = vec![1; batch * height * width];
    for (picture, out) in pixels.iter().zip(values.chunks_exact_mut((height * width).max(1))) {
        let [rows, columns] = size(picture);
        for (row, line) in out.chunks_exact_mut(width.max(1)).enumerate() {
            for (column, shown) in line.iter_mut().enumerate() {
                *shown = u32::from(row < rows && column < columns);
            }
        }
    }
    Tensor::bool([batch, height, width], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_channels_last_and_are_padded() {
        let picture = Tensor::f32([1, 3, 1, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let whole = batch(&[&picture], 2, [1, 2]).unwrap();
        assert_eq!(whole.to_f64(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let padded = batch(&[&picture], 1, [2, 3]).unwrap();
        assert_eq!(padded.to_f64()[..9], [1.0, 3.0, 5.0, 2.0, 4.0, 6.0, 0.0, 0.0, 0.0]);
        let shown = mask(&[&picture], 2, [2, 3]).unwrap();
        assert_eq!(shown.to_f64(), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
