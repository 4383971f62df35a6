//! Seeded numbers that are the same on every machine: FNV-1a for keys, SplitMix64 for the sequence.

/// 64-bit FNV-1a of a string's UTF-8 bytes.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A counter-based SplitMix64 sequence: element `i` does not need the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitMix64 {
    key: u64,
}

impl SplitMix64 {
    /// The sequence of this key.
    pub fn new(key: u64) -> Self {
        Self { key }
    }

    /// The sequence of a name.
    pub fn named(name: &str) -> Self {
        Self::new(fnv1a64(name))
    }

    /// Element `i`, 64 bits.
    pub fn bits(self, i: u64) -> u64 {
        let mut z = self.key.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Element `i` as a multiple of 2^-24 in [0, 1).
    pub fn unit(self, i: u64) -> f32 {
        (self.bits(i) >> 40) as f32 * 2f32.powi(-24)
    }

    /// Element `i` in [-1, 1) times `scale` plus `offset`: one f32 multiplication, one f32 addition.
    pub fn affine(self, i: u64, scale: f32, offset: f32) -> f32 {
        (2.0 * self.unit(i) - 1.0) * scale + offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_vectors() {
        assert_eq!(fnv1a64(""), 0xcbf29ce484222325);
        assert_eq!(fnv1a64("foobar"), 0x85944171f73967e8);
    }

    #[test]
    fn splitmix_matches_the_reference_sequence() {
        // Key 0 is Vigna's generator seeded with 0.
        assert_eq!(SplitMix64::new(0).bits(0), 0xe220a8397b1dcdaf);
        assert_eq!(SplitMix64::new(0).bits(1), 0x6e789e6aa1b965f4);
    }
}
