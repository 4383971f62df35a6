//! How near one picture is to another.

use rayon::prelude::*;

use super::Picture;

/// Pictures that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// They are not equally large.
    #[error("pictures of {}x{} and {}x{} pixels cannot be compared", first[0], first[1], second[0], second[1])]
    Sizes {
        /// Width and height of the one.
        first: [usize; 2],
        /// Those of the other.
        second: [usize; 2],
    },
    /// They are smaller than what is compared at once.
    #[error("pictures of {width}x{height} pixels have no SSIM: it takes {WINDOW}x{WINDOW} at least")]
    TooSmall {
        /// Their width.
        width: usize,
        /// Their height.
        height: usize,
    },
}

/// The largest value of a pixel.
const PEAK: f64 = 255.0;
/// Pixels along a side of SSIM's window, and the standard deviation of its Gaussian weights.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;

/// The peak signal-to-noise ratio of two pictures in dB; infinite where they are equal.
pub fn psnr(first: &Picture, second: &Picture) -> Result<f64, QualityError> {
    check_sizes(first, second)?;
    let squares = first.rgb.iter().zip(&second.rgb).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2));
    let mean = squares.sum::<u64>() as f64 / first.rgb.len() as f64;
    Ok(10.0 * (PEAK * PEAK / mean).log10())
}

/// The structural similarity of two pictures, 1 where they are equal (Wang et al. 2004, "Image Quality Assessment: From
/// Error Visibility to Structural Similarity", <https://doi.org/10.1109/TIP.2003.819861>): the mean over red, green and blue
/// of that of each, by windows of 11x11 pixels with Gaussian weights that lie within the picture. It is scikit-image's
/// `structural_similarity` with `gaussian_weights=True, use_sample_covariance=False, data_range=255, channel_axis=2`.
pub fn ssim(first: &Picture, second: &Picture) -> Result<f64, QualityError> {
    check_sizes(first, second)?;
    let &Picture { width, height, .. } = first;
    if width.min(height) < WINDOW {
        return Err(QualityError::TooSmall { width, height });
    }
    let weights = weights();
    // A row of windows at a time, so that memory stays small.
    let rows = 0..height - WINDOW + 1;
    let sums = rows.into_par_iter().map(|top| {
        let windows = (0..3).map(|channel| Rows { pictures: [first, second], top, channel }.sum(&weights));
        windows.sum::<f64>()
    });
    // In order, so that the sum is the same each time.
    let sum: f64 = sums.collect::<Vec<f64>>().into_iter().sum();
    Ok(sum / (3 * (width - WINDOW + 1) * (height - WINDOW + 1)) as f64)
}

fn check_sizes(first: &Picture, second: &Picture) -> Result<(), QualityError> {
    let [first, second] = [first, second].map(|picture| [picture.width, picture.height]);
    if first == second { Ok(()) } else { Err(QualityError::Sizes { first, second }) }
}

fn weights() -> [f64; WINDOW] {
    let weight = |i: usize| (-0.5 * ((i as f64 - (WINDOW / 2) as f64) / SIGMA).powi(2)).exp();
    let weights: [f64; WINDOW] = std::array::from_fn(weight);
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// The windows that begin at a row, of one channel.
struct Rows<'a> {
    pictures: [&'a Picture; 2],
    top: usize,
    channel: usize,
}

impl Rows<'_> {
    /// The sum of the windows' similarities.
    fn sum(&self, weights: &[f64; WINDOW]) -> f64 {
        let columns: Vec<Moments> = (0..self.pictures[0].width).map(|x| self.column(x, weights)).collect();
        let window = |columns: &[Moments]| {
            let weighed = columns.iter().zip(weights);
            weighed.fold(Moments::default(), |sum, (moments, &weight)| sum.plus(moments, weight)).similarity()
        };
        columns.windows(WINDOW).map(window).sum()
    }

    fn column(&self, x: usize, weights: &[f64; WINDOW]) -> Moments {
        let mut sum = Moments::default();
        for (i, &weight) in weights.iter().enumerate() {
            let [a, b] = self.pictures.map(|picture| {
                let at = ((self.top + i) * picture.width + x) * 3 + self.channel;
                picture.rgb.get(at).copied().map_or(0.0, f64::from)
            });
            sum = sum.plus(&Moments([a, b, a * a, b * b, a * b]), weight);
        }
        sum
    }
}

/// Weighed means of two pictures, of their squares and of their product.
#[derive(Clone, Copy, Default)]
struct Moments([f64; 5]);

impl Moments {
    fn plus(&self, other: &Self, weight: f64) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i] * weight))
    }

    fn similarity(&self) -> f64 {
        let [a, b, aa, bb, ab] = self.0;
        let (c1, c2) = ((0.01 * PEAK).powi(2), (0.03 * PEAK).powi(2));
        let covariances = (2.0 * (ab - a * b) + c2) / ((aa - a * a) + (bb - b * b) + c2);
        (2.0 * a * b + c1) / (a * a + b * b + c1) * covariances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, byte: impl Fn(usize, usize, usize) -> usize) -> Picture {
        let bytes = (0..width * height * 3).map(|i| byte(i / 3 % width, i / 3 / width, i % 3) as u8);
        Picture::new(width, height, bytes.collect()).unwrap()
    }

    /// Two pictures that are somewhat alike, and the PSNR and SSIM that scikit-image 0.26 gives.
    #[test]
    fn numbers_are_those_of_scikit_image() {
        for (width, height, expected) in GOLDEN {
            let first = picture(width, height, |x, y, c| (x * 7 + y * 13 + c * 50 + x * y / 3) % 256);
            let second = picture(width, height, |x, y, c| {
                ((x * 7 + y * 13 + c * 50 + x * y / 3) % 256 + (x * 31 + y * 17 + c * 11) % 40) * 255 / 294
            });
            let found = [psnr(&first, &second).unwrap(), ssim(&first, &second).unwrap()];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-9, "{width}x{height}: {found} {expected}");
            }
        }
    }

    const GOLDEN: [(usize, usize, [f64; 2]); 4] = [
        (11, 11, [25.552960394457166, 0.9303043670194934]),
        (12, 11, [25.616879698106352, 0.9329664469801008]),
        (37, 23, [25.190486974784143, 0.95933374764869]),
        (64, 80, [25.17911002243904, 0.9721652612777266]),
    ];

    #[test]
    fn equal_pictures_are_as_near_as_can_be() {
        let grey = picture(12, 11, |_, _, _| 128);
        assert_eq!((psnr(&grey, &grey).unwrap(), ssim(&grey, &grey).unwrap()), (f64::INFINITY, 1.0));
    }

    #[test]
    fn pictures_that_cannot_be_compared_are_refused() {
        let (small, large) = (picture(10, 20, |_, _, _| 0), picture(20, 10, |_, _, _| 0));
        for compare in [psnr, ssim] {
            let error = compare(&small, &large).unwrap_err().to_string();
            assert_eq!(error, "pictures of 10x20 and 20x10 pixels cannot be compared");
        }
        assert!(ssim(&small, &small).unwrap_err().to_string().contains("10x20 pixels have no SSIM"));
        assert!(psnr(&small, &small).unwrap().is_infinite());
    }
}
