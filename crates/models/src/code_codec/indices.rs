//! How likely each code is, learned from those before it.
//!
//! Pictures repeat themselves: a code is guessed first, from what stood where its neighbours stood last time, then as the
//! one left of it and the one above. Whether a guess is right is a bit, whose probability goes by which guess it is and by
//! whether the code before was guessed. Where none is, the code's own digits follow, by a tree whose probabilities are those
//! of counts: with what each count begins at, the leaves together are Dirichlet's prior on the codes, so that those seen
//! before are likelier.

use std::collections::HashMap;

use super::arithmetic::{Bits, SCALE_BITS};

/// The least probability of a bit, of 2^16. It is why a code takes 1/1024 of a bit at least; see [`most_codes`].
const LEAST: u32 = 1 << (SCALE_BITS - 10);
/// Sum of the counts of a bit above which they are halved.
const MOST: u32 = 1 << 22;

/// By how much a seen code's count grows where all begin at 1, for each way to write codes: flat for pictures that use all
/// of a codebook, steep for those that use little of it.
pub(super) const GAINS: [u32; 4] = [1, 4, 16, 64];

/// How many codes so many bytes may hold.
pub(super) fn most_codes(bytes: usize) -> u64 {
    (bytes as u64 + 1) * 8 * 1024
}

/// Counts of zeros and ones.
#[derive(Clone, Copy)]
struct Counts([u32; 2]);

impl Counts {
    /// Codes a bit; what never counts is certain.
    fn code(&mut self, bits: &mut impl Bits, bit: bool, gain: u32) -> bool {
        let [zeros, ones] = self.0;
        if zeros == 0 || ones == 0 {
            return zeros == 0;
        }
        let share = (u64::from(ones) << SCALE_BITS) / u64::from(zeros + ones);
        let bit = bits.bit((share as u32).clamp(LEAST, (1 << SCALE_BITS) - LEAST), bit);
        self.0[usize::from(bit)] += gain;
        if self.0[0] + self.0[1] > MOST {
            self.0 = self.0.map(|count| count.div_ceil(2));
        }
        bit
    }
}

/// Guesses of a code, at most.
const GUESSES: usize = 4;

/// What is known of codes so far.
struct Model {
    /// Nodes of a tree over a code's digits from 1 on; the children of i are 2i and 2i + 1.
    tree: Vec<Counts>,
    digits: u32,
    gain: u32,
    /// For each guess, by whether the code before was guessed.
    guesses: [[Counts; 2]; GUESSES],
    guessed: bool,
    /// What stood last right of, below, and right and below of the same codes; and of the first two.
    after: HashMap<[u32; 3], u32>,
    after_two: HashMap<[u32; 2], u32>,
}

impl Model {
    fn new(codes: u32, gain: u32) -> Self {
        let digits = codes.next_power_of_two().trailing_zeros();
        let leaves = |first: u32, count: u32| codes.saturating_sub(first).min(count);
        let mut tree = vec![Counts([0; 2])];
        for depth in 0..digits {
            let half = 1 << (digits - depth - 1);
            let node = |i: u32| Counts([leaves(2 * i * half, half), leaves((2 * i + 1) * half, half)]);
            tree.extend((0..1 << depth).map(node));
        }
        Self {
            tree,
            digits,
            gain,
            guesses: [[Counts([1; 2]); 2]; GUESSES],
            guessed: false,
            after: HashMap::new(),
            after_two: HashMap::new(),
        }
    }

    /// Codes the code that stands right of, below, and right and below of these.
    fn code(&mut self, bits: &mut impl Bits, near: [Option<u32>; 3], code: u32) -> u32 {
        let [left, above, corner] = near;
        let two = left.zip(above).map(|(left, above)| [left, above]);
        let three = two.zip(corner).map(|([left, above], corner)| [left, above, corner]);
        let guesses: [Option<u32>; GUESSES] = [
            three.and_then(|key| self.after.get(&key).copied()),
            two.and_then(|key| self.after_two.get(&key).copied()),
            left,
            above,
        ];
        let before = usize::from(self.guessed);
        let mut found = None;
        for (i, guess) in guesses.into_iter().enumerate() {
            let Some(guess) = guess.filter(|guess| !guesses[..i].contains(&Some(*guess))) else { continue };
            if self.guesses[i][before].code(bits, guess == code, 2) {
                found = Some(guess);
                break;
            }
        }
        self.guessed = found.is_some();
        let code = found.unwrap_or_else(|| self.spell(bits, code));
        three.map(|key| self.after.insert(key, code));
        two.map(|key| self.after_two.insert(key, code));
        code
    }

    fn spell(&mut self, bits: &mut impl Bits, code: u32) -> u32 {
        let mut node = 1;
        for digit in (0..self.digits).rev() {
            let Some(counts) = self.tree.get_mut(node) else { break };
            let bit = counts.code(bits, code >> digit & 1 == 1, self.gain);
            node = 2 * node + usize::from(bit);
        }
        node as u32 - (1 << self.digits)
    }
}

/// Codes `codes` in rows of `width`: a writer those that it is given, a reader in their place those that it reads.
pub(super) fn code(bits: &mut impl Bits, codes: &mut [u32], width: usize, size: u32, gain: u32) {
    let mut model = Model::new(size, gain);
    for i in 0..codes.len() {
        let (before, rest) = codes.split_at_mut(i);
        let at = |back: usize| before.len().checked_sub(back).and_then(|i| before.get(i)).copied();
        let inner = !i.is_multiple_of(width);
        let left = at(1).filter(|_| inner);
        let corner = at(width + 1).filter(|_| inner);
        let near = [left, at(width), corner];
        if let Some(code) = rest.first_mut() {
            *code = model.code(bits, near, *code);
        }
    }
}
