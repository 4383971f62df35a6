//! Codes that are as good as others, as far as latents can be trusted.

use kiln_graph::{DType, Tensor};

use crate::verify::VerifyError;
use crate::vq_model::{Config, Quantizer};
use crate::weights::Weights;

/// The codes, where one is tied with the expected one that instead: where its score leads by no more than errors of `noise` in
/// each of the latents' numbers move it. Errors do not all point the same way, so that they add up as squares.
///
/// A code's score is a product with the latent and a number of its own, with either quantiser: what makes a row c the
/// nearest to z is the largest `2 z . c - c . c`.
pub(super) fn settle(
    config: &Config,
    weights: &dyn Weights,
    latents: &Tensor,
    noise: f64,
    codes: Tensor,
    expected: &Tensor,
) -> Result<Tensor, VerifyError> {
    let (own, wanted) = (codes.to_f64(), expected.to_f64());
    if noise == 0.0 || own == wanted {
        return Ok(codes);
    }
    let scores = Scores::load(config, weights)?;
    let latents = latents.to_f64();
    let settled =
        latents.chunks_exact(scores.width).zip(own.iter().zip(&wanted)).map(|(z, (&own, &wanted))| {
            let lead = scores.lead(z, own as usize, wanted as usize);
            if lead.is_some_and(|[lead, slope]| lead <= noise * slope) { wanted } else { own }
        });
    Ok(Tensor::from_f64(codes.shape(), DType::I32, &settled.collect::<Vec<_>>())?)
}

/// What makes the scores of codes of a latent.
struct Scores {
    width: usize,
    /// A row for each code, with which a latent is multiplied.
    rows: Vec<f64>,
    /// What is added, a number for each code.
    added: Vec<f64>,
}

impl Scores {
    fn load(config: &Config, weights: &dyn Weights) -> Result<Self, VerifyError> {
        let width = config.vq_embed_dim.max(1);
        let load = |name: &str| Ok::<_, VerifyError>(weights.load(name)?.to_f64());
        Ok(match config.quantizer {
            Quantizer::Gumbel => {
                Self { width, rows: load("quantize.proj.weight")?, added: load("quantize.proj.bias")? }
            }
            Quantizer::Nearest => {
                let codebook = load("quantize.embedding.weight")?;
                let square = |row: &[f64]| -row.iter().map(|c| c * c).sum::<f64>();
                let added = codebook.chunks_exact(width).map(square).collect();
                Self { width, rows: codebook.iter().map(|c| 2.0 * c).collect(), added }
            }
        })
    }

    /// By how much the score of the latent's code `own` leads that of `other`, and how much that moves with errors of the
    /// latent's numbers. Nothing where there is no such code.
    fn lead(&self, latent: &[f64], own: usize, other: usize) -> Option<[f64; 2]> {
        let row = |code: usize| self.rows.chunks_exact(self.width).nth(code);
        let (mut lead, mut squares) = (self.added.get(own)? - self.added.get(other)?, 0.0);
        for ((z, a), b) in latent.iter().zip(row(own)?).zip(row(other)?) {
            lead += z * (a - b);
            squares += (a - b) * (a - b);
        }
        Some([lead, squares.sqrt()])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn only_codes_within_the_noise_are_tied() {
        let mut config = Config { num_vq_embeddings: 3, vq_embed_dim: 1, ..Config::vq_f4() };
        let f32s = |shape: &[usize], values: &[f32]| Tensor::f32(shape, values.to_vec()).unwrap();
        let i32s = |values: &[i32]| Tensor::i32([1, 1, values.len()], values.to_vec()).unwrap();
        let mut weights =
            HashMap::from([("quantize.embedding.weight".to_string(), f32s(&[3, 1], &[0.0, 1.0, 5.0]))]);
        let latents = f32s(&[1, 1, 2, 1], &[0.49, 0.3]);
        let settle = |config: &Config, weights: &HashMap<_, _>, noise, expected: &[i32]| {
            let settled = settle(config, weights, &latents, noise, i32s(&[0, 0]), &i32s(expected)).unwrap();
            settled.as_i32().unwrap().to_vec()
        };
        // The middle of the first two codes is 0.01 and 0.2 away.
        assert_eq!(settle(&config, &weights, 0.02, &[1, 1]), [1, 0]);
        assert_eq!(settle(&config, &weights, 0.005, &[1, 1]), [0, 0]);
        assert_eq!(settle(&config, &weights, 0.02, &[2, 9]), [0, 0]);
        assert_eq!(settle(&config, &weights, 0.0, &[1, 0]), [0, 0]);
        config.quantizer = Quantizer::Gumbel;
        weights.insert("quantize.proj.weight".into(), f32s(&[3, 1, 1, 1], &[-1.0, 1.0, 0.0]));
        weights.insert("quantize.proj.bias".into(), f32s(&[3], &[1.0, 0.0, 0.0]));
        assert_eq!(settle(&config, &weights, 0.02, &[1, 1]), [1, 0]);
    }
}
