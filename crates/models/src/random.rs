//! Random numbers as PyTorch draws them on a CPU, so that a seed gives the same initial noise here as there.

mod twister;

use std::f64::consts::TAU;

use rayon::prelude::*;

use twister::Twister;

/// Numbers that the vectorised fill of PyTorch makes at once: eight cosines, then eight sines.
const BLOCK: usize = 16;

/// The state of a `torch.Generator` on a CPU.
///
/// [`normals`](Generator::normals) repeats `torch.randn`, [`uniforms`](Generator::uniforms) `torch.rand` and
/// [`exponentials`](Generator::exponentials) `Tensor.exponential_`, all in f32.
/// Successive calls go on where the last one ended, in any mixture, as they do with one `torch.Generator`. Uniform
/// numbers are the same bit for bit. Normal numbers come from the same uniform ones by the same formula (Box and Muller
/// 1958, <https://doi.org/10.1214/aoms/1177706645>), but PyTorch takes its logarithms, sines and cosines from
/// approximations that vary with the processor. Here each is rounded once from f64. Against PyTorch 2.15, eight seeds of
/// 16,384 numbers each, the largest difference is 4.8e-7, or three steps of f32, where PyTorch uses AVX2 or AVX-512, and
/// 2.1e-6 where it uses neither and multiplies angles in f64.
///
/// ```
/// use kiln_models::random::Generator;
///
/// let mut generator = Generator::new(0);
/// let noise = generator.normals(2);
/// assert_eq!(noise, [1.5409961, -0.2934289]);
/// ```
#[derive(Clone, Debug)]
pub struct Generator {
    twister: Twister,
    /// The second normal number of a pair that was made one by one, until it is asked for.
    spare: Option<f64>,
}

impl Generator {
    /// What `torch.manual_seed(seed)` makes. As there, only the lower 32 bits of the seed count.
    pub fn new(seed: u64) -> Self {
        Self { twister: Twister::new(seed as u32), spare: None }
    }

    /// `count` numbers from 0 up to but not including 1: multiples of 2^-24, each as likely.
    pub fn uniforms(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.uniform()).collect()
    }

    /// `count` numbers of the standard normal distribution.
    ///
    /// As in PyTorch, fewer than 16 numbers are made one by one in f64 and 16 or more in blocks, so the first numbers of
    /// a longer call are others than those of a shorter one.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal() as f32).collect();
        }
        let mut values = self.uniforms(count);
        for block in values.chunks_exact_mut(BLOCK) {
            to_normal(block);
        }
        if !count.is_multiple_of(BLOCK) {
            // The last block overlaps the one before it and starts from fresh uniform numbers.
            let mut last = self.uniforms(BLOCK);
            to_normal(&mut last);
            values.truncate(count - BLOCK);
            values.append(&mut last);
        }
        values
    }

    /// `count` numbers of the exponential distribution with mean 1, which PyTorch's `multinomial` divides probabilities by.
    ///
    /// Each is made of a uniform number in f64 and rounded once, as in PyTorch 2.15.
    pub fn exponentials(&mut self, count: usize) -> Vec<f32> {
        self.uniform_doubles(count).into_par_iter().map(exponential).collect()
    }

    /// The same for groups of `each` numbers, of which those that are `wanted` alone are computed, and the others are 1.
    /// All are drawn, so that what comes behind them is the same.
    pub fn exponentials_of(&mut self, wanted: &[bool], each: usize) -> Vec<f32> {
        let uniforms = self.uniform_doubles(wanted.len() * each);
        let groups = uniforms.par_chunks(each.max(1)).zip(wanted);
        let computed = groups.flat_map_iter(|(group, &wanted)| {
            group.iter().map(move |&uniform| if wanted { exponential(uniform) } else { 1.0 })
        });
        computed.collect()
    }

    fn uniform(&mut self) -> f32 {
        const BITS: u32 = 24;
        (self.twister.draw() & ((1 << BITS) - 1)) as f32 / (1u32 << BITS) as f32
    }

    /// A uniform number in f64 from two draws, the upper half first.
    fn uniform_double(&mut self) -> f64 {
        const BITS: u32 = 53;
        let upper = u64::from(self.twister.draw()) << 32;
        let bits = (upper | u64::from(self.twister.draw())) & ((1 << BITS) - 1);
        bits as f64 / (1u64 << BITS) as f64
    }

    fn uniform_doubles(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.uniform_double()).collect()
    }

    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (angle, length) = (self.uniform_double(), self.uniform_double());
        let radius = (-2.0 * (-length).ln_1p()).sqrt();
        let (sine, cosine) = (TAU * angle).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }
}

/// The exponential number of a uniform one.
fn exponential(uniform: f64) -> f32 {
    -(-uniform).ln_1p() as f32
}

/// Turns 16 uniform numbers into normal ones: the first eight give lengths, the last eight angles. Intermediate results
/// are rounded to f32 where PyTorch rounds them.
fn to_normal(block: &mut [f32]) {
    let (lengths, angles) = block.split_at_mut(BLOCK / 2);
    for (length, angle) in lengths.iter_mut().zip(angles) {
        let log = f64::from(1.0 - *length).ln() as f32;
        let radius = (-2.0 * log).sqrt();
        let theta = TAU as f32 * *angle;
        let (sine, cosine) = f64::from(theta).sin_cos();
        *length = radius * cosine as f32;
        *angle = radius * sine as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_goes_on_alike_and_no_numbers_change_nothing() {
        let mut one = Generator::new(7);
        one.normals(3);
        let mut other = one.clone();
        assert!(other.normals(0).is_empty() && other.uniforms(0).is_empty());
        assert_eq!(one.normals(40), other.normals(40));
    }

    #[test]
    fn numbers_that_are_not_wanted_are_drawn_too() {
        let (mut all, mut some) = (Generator::new(5), Generator::new(5));
        let (whole, wanted) = (all.exponentials(12), [true, false, false, true]);
        let part = some.exponentials_of(&wanted, 3);
        for (i, wanted) in wanted.into_iter().enumerate() {
            let group = i * 3..(i + 1) * 3;
            assert_eq!(part[group.clone()], if wanted { whole[group].to_vec() } else { vec![1.0; 3] }[..]);
        }
        assert_eq!(all.uniforms(3), some.uniforms(3));
        assert!(some.exponentials_of(&[], 3).is_empty() && some.exponentials_of(&[true], 0).is_empty());
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let values = Generator::new(3).normals(1 << 16);
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        // Five standard errors.
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn the_largest_draw_gives_a_finite_number() {
        let mut block = [1.0 - f32::EPSILON / 2.0; BLOCK];
        to_normal(&mut block);
        assert!(block.iter().all(|v| v.is_finite()));
    }
}
