//! A binary arithmetic coder without carries: an interval of 64 bits, whose highest byte is written once both ends agree on
//! it (Mahoney 2005, "Adaptive Weighing of Context Models for Lossless Data Compression",
//! <https://cs.fit.edu/~mmahoney/compression/cs200516.pdf>).
//!
//! It is written here and not taken from a crate since all that codes need are single bits with adaptive probabilities,
//! which general coders have no models for.

/// Bits of a probability.
pub(super) const SCALE_BITS: u32 = 16;

/// What reads bits or writes them, so that one function says how either is done.
pub(super) trait Bits {
    /// A bit that is 1 with a probability of `one` in 2^16: a writer writes `bit`, a reader gives its own.
    fn bit(&mut self, one: u32, bit: bool) -> bool;
}

/// What a bit yet to come may be.
#[derive(Debug)]
struct Interval {
    low: u64,
    high: u64,
}

impl Interval {
    const WHOLE: Self = Self { low: 0, high: u64::MAX };

    /// The last place that means 1.
    fn middle(&self, one: u32) -> u64 {
        let range = self.high - self.low;
        self.low
            + (range >> SCALE_BITS) * u64::from(one)
            + (((range & ((1 << SCALE_BITS) - 1)) * u64::from(one)) >> SCALE_BITS)
    }

    fn narrow(&mut self, middle: u64, bit: bool) {
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
    }

    /// The highest byte where both ends agree on it, which leaves the interval.
    fn agreed(&mut self) -> Option<u8> {
        let byte = self.low >> 56;
        if byte != self.high >> 56 {
            return None;
        }
        self.low <<= 8;
        self.high = self.high << 8 | 0xff;
        Some(byte as u8)
    }
}

/// Writes bits.
pub(super) struct Writer {
    interval: Interval,
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self { interval: Interval::WHOLE, bytes: Vec::new() }
    }

    /// What was written. Zeros, which a reader sees behind it, are left out.
    pub fn finish(mut self) -> Vec<u8> {
        // Ends that do not agree have a place between them whose lower bytes are zeros.
        self.bytes.push((self.interval.low >> 56) as u8 + 1);
        self.bytes
    }
}

impl Bits for Writer {
    fn bit(&mut self, one: u32, bit: bool) -> bool {
        let middle = self.interval.middle(one);
        self.interval.narrow(middle, bit);
        while let Some(byte) = self.interval.agreed() {
            self.bytes.push(byte);
        }
        bit
    }
}

/// Reads what a [`Writer`] wrote. Of other bytes it reads bits too, without end.
pub(super) struct Reader<'a> {
    interval: Interval,
    place: u64,
    bytes: &'a [u8],
    /// How many bytes have left the interval.
    passed: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let at = |i: usize| u64::from(bytes.get(i).copied().unwrap_or(0));
        let place = (0..8).fold(0, |place, i| place << 8 | at(i));
        Self { interval: Interval::WHOLE, place, bytes, passed: 0 }
    }

    /// Whether a writer of what was read would have written as many bytes as there are.
    pub fn is_at_end(&self) -> bool {
        self.passed + 1 == self.bytes.len()
    }
}

impl Bits for Reader<'_> {
    fn bit(&mut self, one: u32, _: bool) -> bool {
        let middle = self.interval.middle(one);
        let bit = self.place <= middle;
        self.interval.narrow(middle, bit);
        while self.interval.agreed().is_some() {
            let next = self.bytes.get(self.passed + 8).copied().unwrap_or(0);
            self.place = self.place << 8 | u64::from(next);
            self.passed += 1;
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::random::SplitMix64;

    use super::*;

    #[test]
    fn bits_are_read_as_they_were_written_and_take_what_they_tell() {
        let random = SplitMix64::named("bits");
        for one in [64, 900, 32768, 65000, 65472] {
            let bits: Vec<bool> =
                (0..20_000).map(|i| random.affine(i, 0.5, 0.5) < one as f32 / 65536.0).collect();
            let mut writer = Writer::new();
            for &bit in &bits {
                writer.bit(one, bit);
            }
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            assert!(bits.iter().all(|&bit| reader.bit(one, !bit) == bit));
            assert!(reader.is_at_end());
            let told = bits.iter().map(|&bit| if bit { one } else { 65536 - one });
            let entropy: f64 = told.map(|share| -(f64::from(share) / 65536.0).log2()).sum();
            assert!((bytes.len() as f64) < entropy / 8.0 + 2.0, "{} {entropy}", bytes.len());
        }
        assert_eq!(Writer::new().finish(), [1]);
    }
}
