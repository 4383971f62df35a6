//! Resizing as PIL does it, to the bit: separable filters widened when shrinking, in 22-bit fixed point.
//!
//! The algorithm and its rounding are those of Pillow's `Resample.c` for 8-bit pixels: rows first, then columns, each
//! rounded to 8 bits.

use super::Picture;

/// A resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The pixel at the centre.
    Nearest,
    /// Mean of the pixels covered.
    Box,
    /// Triangle.
    Bilinear,
    /// Hamming-windowed sinc of support 1.
    Hamming,
    /// Cubic with a = -1/2.
    Bicubic,
    /// Lanczos-windowed sinc of support 3.
    Lanczos,
}

impl Filter {
    /// The filter of PIL's number: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
    pub fn from_pil(number: u64) -> Option<Self> {
        Some(match number {
            0 => Filter::Nearest,
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            5 => Filter::Hamming,
            _ => return None,
        })
    }

    /// The filter of torchvision's and timm's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "nearest" => Filter::Nearest,
            "box" => Filter::Box,
            "bilinear" => Filter::Bilinear,
            "hamming" => Filter::Hamming,
            "bicubic" => Filter::Bicubic,
            "lanczos" => Filter::Lanczos,
            _ => return None,
        })
    }

    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        fn sinc(x: f64) -> f64 {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        }
        match self {
            Filter::Nearest | Filter::Box => f64::from(x > -0.5 && x <= 0.5),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Hamming => {
                let x = x.abs();
                if x == 0.0 {
                    1.0
                } else if x >= 1.0 {
                    0.0
                } else {
                    sinc(x) * (0.54 + 0.46 * (x * std::f64::consts::PI).cos())
                }
            }
            Filter::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

/// Bits behind the point of a coefficient: 8 for the pixel and 2 for overshoot are left of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// The source pixels of one output pixel and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    if filter == Filter::Nearest {
        let one = 1 << PRECISION;
        let first = |i: usize| (((i as f64 + 0.5) * scale) as usize).min(from - 1);
        return (0..to).map(|i| Taps { first: first(i), weights: vec![one] }).collect();
    }
    let widening = scale.max(1.0);
    let support = filter.support() * widening;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let mut weights: Vec<f64> =
                (first..end).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / widening))).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            let fixed = |weight: f64| {
                let scaled = weight * f64::from(1 << PRECISION);
                (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            };
            Taps { first, weights: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}

fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn rows(picture: &Picture, width: usize, filter: Filter) -> Picture {
    let mut rgb = Vec::with_capacity(width * picture.height * 3);
    let taps = taps(picture.width, width, filter);
    for row in picture.rgb.chunks_exact(picture.width * 3) {
        for tap in &taps {
            let mut sums = [1 << (PRECISION - 1); 3];
            for (pixel, &weight) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            rgb.extend(sums.map(clip8));
        }
    }
    Picture { width, height: picture.height, rgb }
}

fn columns(picture: &Picture, height: usize, filter: Filter) -> Picture {
    let line = picture.width * 3;
    let mut rgb = Vec::with_capacity(line * height);
    let mut sums = vec![0; line];
    for tap in taps(picture.height, height, filter) {
        sums.fill(1 << (PRECISION - 1));
        for (row, &weight) in picture.rgb[tap.first * line..].chunks_exact(line).zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        rgb.extend(sums.iter().map(|&sum| clip8(sum)));
    }
    Picture { width: picture.width, height, rgb }
}

/// The picture in another size. Sizes of 0 are taken as 1.
pub fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    let mut result = if width == picture.width { picture.clone() } else { rows(picture, width, filter) };
    if height != picture.height {
        result = columns(&result, height, filter);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with edges and gradients, the same as the script that wrote the expected sums makes.
    fn pattern(width: usize, height: usize) -> Picture {
        let pixel = |i: usize| {
            let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
            ((x * 37 + y * 91 + c * 53 + x * y * 7) % 256) as u8
        };
        Picture::new(width, height, (0..width * height * 3).map(pixel).collect()).unwrap()
    }

    #[test]
    fn pixels_equal_pillows() {
        // (filter, from, to, FNV-1a of the pixels) by Pillow 13, PIL.Image.resize.
        for (filter, from, to, expected) in EXPECTED {
            let resized = resize(&pattern(from.0, from.1), to.0, to.1, filter);
            let hash = resized.rgb.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            assert_eq!(hash, expected, "{filter:?} {from:?} -> {to:?}");
        }
    }

    #[test]
    fn a_constant_picture_stays_constant() {
        let grey = Picture::new(17, 9, vec![200; 17 * 9 * 3]).unwrap();
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Box, Filter::Hamming] {
            assert!(resize(&grey, 5, 40, filter).rgb.iter().all(|&v| v == 200));
        }
    }

    #[rustfmt::skip]
    const EXPECTED: [(Filter, (usize, usize), (usize, usize), u64); 42] = [
        (Filter::Nearest, (37, 23), (16, 16), 0xeba687d271580add),
        (Filter::Nearest, (37, 23), (64, 50), 0x80d47775efdb89d),
        (Filter::Nearest, (8, 8), (32, 32), 0xe02fc3424ab06aa5),
        (Filter::Nearest, (40, 40), (32, 32), 0x5667b74971441cd5),
        (Filter::Nearest, (300, 7), (224, 224), 0xab956e59e8f9ad25),
        (Filter::Nearest, (5, 5), (5, 9), 0x700a5d778bbd297e),
        (Filter::Nearest, (64, 48), (1, 1), 0xa164a17f6e198c4),
        (Filter::Lanczos, (37, 23), (16, 16), 0x3c30be6313b3c128),
        (Filter::Lanczos, (37, 23), (64, 50), 0xf949f1741a0fed02),
        (Filter::Lanczos, (8, 8), (32, 32), 0x3eeb2fa558f476aa),
        (Filter::Lanczos, (40, 40), (32, 32), 0x4b128278ba8db2b6),
        (Filter::Lanczos, (300, 7), (224, 224), 0x38c4aaf68cb76748),
        (Filter::Lanczos, (5, 5), (5, 9), 0xc78886a1c49d1635),
        (Filter::Lanczos, (64, 48), (1, 1), 0x3da7871ae86ab683),
        (Filter::Bilinear, (37, 23), (16, 16), 0xbb8eb68db60243ba),
        (Filter::Bilinear, (37, 23), (64, 50), 0x62c3842d7fdf96dd),
        (Filter::Bilinear, (8, 8), (32, 32), 0x36b6b68beea5aa5f),
        (Filter::Bilinear, (40, 40), (32, 32), 0x8cd9ffb89138099d),
        (Filter::Bilinear, (300, 7), (224, 224), 0xf6cdf40aedba82fd),
        (Filter::Bilinear, (5, 5), (5, 9), 0xf621fbf4b53379ae),
        (Filter::Bilinear, (64, 48), (1, 1), 0x3da7871ae86ab683),
        (Filter::Bicubic, (37, 23), (16, 16), 0xff2d9b03a0f7f59d),
        (Filter::Bicubic, (37, 23), (64, 50), 0x64b3129e0b513339),
        (Filter::Bicubic, (8, 8), (32, 32), 0xd8f72268a6ce43a),
        (Filter::Bicubic, (40, 40), (32, 32), 0x8519ab52563c3a1e),
        (Filter::Bicubic, (300, 7), (224, 224), 0x64f4c4545b913a9f),
        (Filter::Bicubic, (5, 5), (5, 9), 0xf087e217fd4a64b4),
        (Filter::Bicubic, (64, 48), (1, 1), 0x3da7871ae86ab683),
        (Filter::Box, (37, 23), (16, 16), 0xc0f3669f145ba8e),
        (Filter::Box, (37, 23), (64, 50), 0x80d47775efdb89d),
        (Filter::Box, (8, 8), (32, 32), 0xe02fc3424ab06aa5),
        (Filter::Box, (40, 40), (32, 32), 0xa9712a24dda42225),
        (Filter::Box, (300, 7), (224, 224), 0x707dac6bdd0271a5),
        (Filter::Box, (5, 5), (5, 9), 0x700a5d778bbd297e),
        (Filter::Box, (64, 48), (1, 1), 0x3da7871ae86ab683),
        (Filter::Hamming, (37, 23), (16, 16), 0x4bfd37a0f79ede0d),
        (Filter::Hamming, (37, 23), (64, 50), 0xac3b79f8d69380d1),
        (Filter::Hamming, (8, 8), (32, 32), 0xca9b5a8cd6458dff),
        (Filter::Hamming, (40, 40), (32, 32), 0xd9dfc4f2cd303df4),
        (Filter::Hamming, (300, 7), (224, 224), 0x1d0964205d414a7d),
        (Filter::Hamming, (5, 5), (5, 9), 0x2204a274baa4f4f2),
        (Filter::Hamming, (64, 48), (1, 1), 0x3da7861ae86ab4d0),
    ];
}
