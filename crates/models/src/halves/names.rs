//! The names of an autoencoder's attentions.

use crate::weights::Weights;

/// How the attentions of each half are named and laid out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    /// Whether the encoder's modules have the names of published files, which are older than diffusers 0.18's.
    pub legacy_encoder: bool,
    /// Whether the decoder's have.
    pub legacy_decoder: bool,
    /// Whether the products are 1x1 convolutions, as in files that were made of the paper's own.
    pub convolutions: bool,
}

impl Names {
    /// Whose names `weights` has.
    pub fn of(weights: &dyn Weights) -> Self {
        let names = weights.names();
        let rank = |half: &str, product: &str| {
            let ending = format!(".attentions.0.{product}.weight");
            let found = names.iter().find(|name| name.starts_with(half) && name.ends_with(&ending))?;
            weights.shape(found).map(<[usize]>::len)
        };
        let old = |half: &str| rank(half, "query");
        let ranks = ["encoder.", "decoder."].map(|half| old(half).or(rank(half, "to_q")));
        Self {
            legacy_encoder: old("encoder.").is_some(),
            legacy_decoder: old("decoder.").is_some(),
            convolutions: ranks.into_iter().flatten().any(|rank| rank == 4),
        }
    }

    /// The modules of an attention: its norm, queries, keys, values and the product behind it.
    pub fn attention(legacy: bool) -> [&'static str; 5] {
        if legacy {
            ["group_norm", "query", "key", "value", "proj_attn"]
        } else {
            ["group_norm", "to_q", "to_k", "to_v", "to_out.0"]
        }
    }

    /// The shape of a product's weight among so many channels.
    pub fn square(&self, channels: usize) -> Vec<usize> {
        let ones = if self.convolutions { 2 } else { 0 };
        [vec![channels; 2], vec![1; ones]].concat()
    }
}
