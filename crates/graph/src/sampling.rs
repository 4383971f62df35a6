//! Choosing a token from logits on the host.
//!
//! The order is that of transformers: temperature, then top-k, then top-p, then one draw.

use crate::random::SplitMix64;

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the largest.
    pub temperature: f32,
    /// Keeps the logits that are not below the `k`-th largest.
    pub top_k: Option<usize>,
    /// Keeps the fewest tokens, from the likeliest on, whose probabilities add up to at least this (Holtzman et al. 2019).
    pub top_p: Option<f32>,
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: None, top_p: None };
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None }
    }
}

/// Draws tokens, reproducibly from a seed.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    draws: u64,
}

impl Sampler {
    /// A sampler whose draws follow from the seed.
    pub fn new(sampling: Sampling, seed: u64) -> Self {
        Self { sampling, random: SplitMix64::named(&format!("sampler/{seed}")), draws: 0 }
    }

    /// The chosen token's index: `None` where no logit is a number above minus infinity.
    pub fn sample(&mut self, logits: &[f32]) -> Option<usize> {
        let kept = self.sampling.keep(logits);
        if self.sampling.temperature <= 0.0 {
            return largest(kept.iter().map(|&(token, logit)| (token, f64::from(logit))));
        }
        // Gumbel's trick: the largest of logits plus Gumbel noise is a draw from their softmax, and needs no sum.
        let noisy: Vec<(usize, f64)> = kept
            .into_iter()
            .map(|(token, logit)| {
                let index = self.draws.wrapping_add(token as u64);
                // In (0, 1): both logarithms are finite.
                let unit = (f64::from(self.random.unit(index)) + 2f64.powi(-25)).min(1.0 - 2f64.powi(-25));
                (token, f64::from(logit) - (-unit.ln()).ln())
            })
            .collect();
        self.draws = self.draws.wrapping_add(logits.len() as u64);
        largest(noisy.into_iter())
    }
}

/// The token with the largest value, the first of equals.
fn largest(values: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    let better = |best: Option<(usize, f64)>, next: (usize, f64)| match best {
        Some(best) if best.1 >= next.1 => Some(best),
        _ => Some(next),
    };
    values.fold(None, better).map(|(token, _)| token)
}

impl Sampling {
    /// Tokens that may be chosen, in order, with their logits over the temperature.
    pub fn keep(&self, logits: &[f32]) -> Vec<(usize, f32)> {
        let warm = if self.temperature > 0.0 { self.temperature } else { 1.0 };
        let mut kept: Vec<(usize, f32)> = logits.iter().map(|&logit| logit / warm).enumerate().collect();
        kept.retain(|&(_, logit)| logit > f32::NEG_INFINITY);
        if let Some(k) = self.top_k.filter(|&k| k < kept.len()) {
            let mut sorted: Vec<f32> = kept.iter().map(|&(_, logit)| logit).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            // At least one token stays.
            let least = sorted.get(k.max(1) - 1).copied().unwrap_or(f32::NEG_INFINITY);
            kept.retain(|&(_, logit)| logit >= least);
        }
        if let Some(p) = self.top_p.filter(|&p| p < 1.0) {
            kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let top = kept.first().map_or(0.0, |&(_, logit)| f64::from(logit));
            let weights: Vec<f64> = kept.iter().map(|&(_, logit)| (f64::from(logit) - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut before = 0.0;
            let enough = |weight: &f64| {
                let reached = before >= f64::from(p) * total;
                before += weight;
                reached
            };
            let count = weights.iter().position(enough).unwrap_or(weights.len());
            kept.truncate(count.max(1));
            kept.sort_by_key(|&(token, _)| token);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        sampling.keep(logits).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(Sampling::GREEDY, 0);
        assert_eq!(sampler.sample(&[0.0, 2.0, f32::NAN, 2.0]), Some(1));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, f32::NAN]), None);
        assert_eq!(sampler.sample(&[]), None);
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_the_fewest() {
        let k = |k| Sampling { top_k: Some(k), ..Default::default() };
        assert_eq!(tokens(k(2), &[1.0, 3.0, 2.0, 2.0]), [1, 2, 3]);
        assert_eq!(tokens(k(0), &[1.0, 3.0]), [1]);
        assert_eq!(tokens(k(9), &[1.0, 3.0]), [0, 1]);
        let p = |p| Sampling { top_p: Some(p), ..Default::default() };
        // Probabilities 0.1, 0.6, 0.3.
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
        assert_eq!(tokens(p(0.5), &logits), [1]);
        assert_eq!(tokens(p(0.7), &logits), [1, 2]);
        assert_eq!(tokens(p(0.95), &logits), [0, 1, 2]);
        assert_eq!(tokens(p(0.0), &logits), [1]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling::default(), seed);
            (0..4000).filter_map(|_| sampler.sample(&logits)).collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        for (token, probability) in [0.1, 0.6, 0.3].into_iter().enumerate() {
            let share = drawn.iter().filter(|&&t| t == token).count() as f64 / 4000.0;
            assert!((share - probability).abs() < 0.03, "{token}: {share}");
        }
    }

    #[test]
    fn temperature_sharpens() {
        let mut sampler = Sampler::new(Sampling { temperature: 0.01, ..Default::default() }, 3);
        assert!((0..100).all(|_| sampler.sample(&[0.0, 1.0, 0.5]) == Some(1)));
    }
}
