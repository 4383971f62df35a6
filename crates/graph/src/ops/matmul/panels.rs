//! Constant right-hand sides packed in panels of columns.

use crate::{LengthError, Tensor};

/// Columns of a panel.
pub(crate) const PANEL: usize = 8;

/// Packs a matrix of `depth` rows and `columns` columns, whose element (k, n) is `at(k, n)` of the tensor, as
/// [panel][depth][`PANEL`], padded with zeros to whole panels and to a depth of a multiple of 4.
pub(crate) fn pack(
    tensor: &Tensor,
    depth: usize,
    columns: usize,
    at: impl Fn(usize, usize) -> usize,
) -> Result<Tensor, LengthError> {
    let (panels, padded) = (columns.div_ceil(PANEL), depth.next_multiple_of(4));
    let source = (0..panels * padded * PANEL).map(|i| {
        let (k, n) = (i / PANEL % padded, i / PANEL / padded * PANEL + i % PANEL);
        (k < depth && n < columns).then(|| at(k, n))
    });
    tensor.pick([panels, padded, PANEL], source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_padded_with_zeros() {
        let x = Tensor::f32([2, 9], (1..=18).map(|i| i as f32).collect()).unwrap();
        let packed = pack(&x, 2, 9, |k, n| k * 9 + n).unwrap();
        assert_eq!(packed.shape(), [2, 4, 8]);
        let y = packed.as_f32().unwrap();
        assert_eq!(y[..8], [1., 2., 3., 4., 5., 6., 7., 8.]);
        assert_eq!(y[8..16], [10., 11., 12., 13., 14., 15., 16., 17.]);
        assert_eq!((y[32], y[40], y.iter().sum::<f32>()), (9., 18., 171.));
    }
}
