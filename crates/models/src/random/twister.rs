//! The Mersenne Twister MT19937 (Matsumoto and Nishimura 1998, <https://doi.org/10.1145/272991.272995>).

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// 624 words of state, of which the words from `next` on are still to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Twister {
    words: [u32; WORDS],
    next: usize,
}

impl Twister {
    pub fn new(seed: u32) -> Self {
        let mut word = seed;
        let words = std::array::from_fn(|i| {
            if i > 0 {
                word = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(i as u32);
            }
            word
        });
        Self { words, next: WORDS }
    }

    /// The next 32 random bits.
    pub fn draw(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn refill(&mut self) {
        for i in 0..WORDS {
            let mixed = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % WORDS] & 0x7fff_ffff);
            let twist = if mixed & 1 == 0 { 0 } else { 0x9908_b0df };
            self.words[i] = self.words[(i + SHIFT) % WORDS] ^ (mixed >> 1) ^ twist;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_the_authors_program_draws() {
        // The first and the ten-thousandth draw from the default seed; the latter is in the C++ standard, [rand.predef].
        let mut twister = Twister::new(5489);
        let draws: Vec<u32> = (0..10_000).map(|_| twister.draw()).collect();
        assert_eq!((draws[0], draws[9_999]), (3_499_211_612, 4_123_659_995));
    }
}
