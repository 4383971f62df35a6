//! A picture as codes.

use kiln_graph::Tensor;

use super::CodesError;
use crate::image::Picture;

/// A codebook, told from others by its size and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Codebook {
    /// How many codes it has.
    pub size: u32,
    /// The CRC-32 of its shape as two u32 and its rows as f32, all with the lowest byte first.
    pub fingerprint: u32,
}

impl Codebook {
    /// Most codes of a codebook.
    pub const MAX_SIZE: u32 = 1 << 20;

    /// That of rows `[codes, channels]`.
    pub fn of(rows: &Tensor) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        for &side in rows.shape() {
            hasher.update(&(side as u32).to_le_bytes());
        }
        for value in rows.to_f32().iter() {
            hasher.update(&value.to_le_bytes());
        }
        Self { size: rows.shape().first().map_or(0, |&rows| rows as u32), fingerprint: hasher.finalize() }
    }
}

/// The codes of a picture, a grid of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMap {
    size: [usize; 2],
    codes: Vec<u32>,
    picture: [usize; 2],
    codebook: Codebook,
}

impl CodeMap {
    /// `size` is the map's height and width, `picture` those of what it is a map of: no less. Codes stand row by row, and
    /// the codebook has each of them.
    pub fn new(
        size: [usize; 2],
        codes: Vec<u32>,
        picture: [usize; 2],
        codebook: Codebook,
    ) -> Result<Self, CodesError> {
        let map = Self { size, codes, picture, codebook };
        Self::check(size, picture, codebook)?;
        if size[0] * size[1] != map.codes.len() {
            let [height, width] = size;
            return Err(CodesError::Size(format!("{} codes are no {width}x{height}", map.codes.len())));
        }
        match map.codes.iter().find(|&&code| code >= codebook.size) {
            Some(&code) => Err(CodesError::Code { code, size: codebook.size }),
            None => Ok(map),
        }
    }

    /// Refuses sizes that no map has.
    pub(super) fn check(
        [height, width]: [usize; 2],
        [rows, columns]: [usize; 2],
        codebook: Codebook,
    ) -> Result<(), CodesError> {
        let pixels = (rows as u64).saturating_mul(columns as u64);
        if height == 0 || width == 0 || height > rows || width > columns || pixels > Picture::MAX_PIXELS {
            return Err(CodesError::Size(format!(
                "{width}x{height} codes are not those of a picture of {columns}x{rows} pixels"
            )));
        }
        match codebook.size {
            1..=Codebook::MAX_SIZE => Ok(()),
            size => Err(CodesError::Size(format!(
                "a codebook of {size} codes is not one of 1 to {}",
                Codebook::MAX_SIZE
            ))),
        }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.size[0]
    }

    /// Codes a row.
    pub fn width(&self) -> usize {
        self.size[1]
    }

    /// The codes, row by row.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// The picture's height and width in pixels.
    pub fn picture_size(&self) -> [usize; 2] {
        self.picture
    }

    /// The codebook that they are of.
    pub fn codebook(&self) -> Codebook {
        self.codebook
    }

    /// How many different codes there are.
    pub fn used(&self) -> usize {
        self.counts().len()
    }

    /// 2 to the power of the codes' entropy in bits: as many codes, equally frequent, would tell as much.
    pub fn perplexity(&self) -> f64 {
        let total = self.codes.len() as f64;
        let share = |count: usize| count as f64 / total;
        (-self.counts().into_iter().map(|count| share(count) * share(count).log2()).sum::<f64>()).exp2()
    }

    /// How often each code occurs that does.
    fn counts(&self) -> Vec<usize> {
        let mut sorted = self.codes.clone();
        sorted.sort_unstable();
        sorted.chunk_by(|a, b| a == b).map(<[u32]>::len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(size: u32) -> Codebook {
        Codebook { size, fingerprint: 7 }
    }

    #[test]
    fn codes_are_counted() {
        let map = |codes: Vec<u32>| CodeMap::new([1, codes.len()], codes, [9, 9], book(8)).unwrap();
        let even = map(vec![5, 1, 1, 5, 3, 3, 0, 0]);
        assert_eq!((even.used(), even.perplexity()), (4, 4.0));
        assert_eq!((map(vec![2; 5]).used(), map(vec![2; 5]).perplexity()), (1, 1.0));
        let uneven = map(vec![0, 0, 0, 1]);
        assert!((uneven.perplexity() - 1.754_765).abs() < 1e-6, "{}", uneven.perplexity());
    }

    #[test]
    fn maps_that_are_none_are_refused() {
        let error =
            |size, codes, picture, book| CodeMap::new(size, codes, picture, book).unwrap_err().to_string();
        let sizes = "are not those of a picture";
        assert!(error([0, 1], vec![], [8, 8], book(8)).contains(sizes));
        assert!(error([1, 9], vec![0; 9], [8, 8], book(8)).contains(sizes));
        assert!(error([1, 1], vec![0], [1 << 20, 1 << 20], book(8)).contains(sizes));
        assert!(error([1, 2], vec![0; 3], [8, 8], book(8)).contains("3 codes are no 2x1"));
        assert!(error([1, 2], vec![0, 8], [8, 8], book(8)).contains("code 8"));
        for size in [0, u32::MAX] {
            assert!(error([1, 1], vec![0], [8, 8], book(size)).contains("a codebook of"));
        }
    }

    #[test]
    fn codebooks_are_told_apart() {
        let of =
            |shape: [usize; 2], values: &[f32]| Codebook::of(&Tensor::f32(shape, values.to_vec()).unwrap());
        let one = of([2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(one.size, 2);
        assert_eq!(one, of([2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        assert_ne!(one, of([2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.000_001]));
        assert_ne!(one.fingerprint, of([3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).fingerprint);
    }
}
