//! Sizes and options of GPT.

mod json;

use kiln_graph::ops::Unary;

use super::names::Names;
use crate::Error;
use crate::weights::Weights;

/// Most blocks that a configuration may ask for.
const MAX_LAYERS: usize = 1024;

/// Sizes and options. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many tokens there are.
    pub vocab_size: usize,
    /// The longest text, in tokens.
    pub n_positions: usize,
    /// Width of a token.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Width between the two layers of the perceptron.
    pub n_inner: usize,
    /// Its activation.
    pub activation_function: Unary,
    /// Added to variances.
    pub layer_norm_epsilon: f32,
    /// Whether scores are divided by the root of a head's width.
    pub scale_attn_weights: bool,
    /// Whether scores of block `i` are divided by `i + 1`.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether the table of tokens makes logits too.
    pub tie_word_embeddings: bool,
}

impl Config {
    /// The smallest GPT-2: 124 M parameters (Radford et al. 2019, table 2).
    pub fn gpt2() -> Self {
        Self {
            vocab_size: 50257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: 4 * 768,
            activation_function: Unary::GeluTanh,
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            tie_word_embeddings: true,
        }
    }

    /// VQGAN's second stage with 1024 codes: 305 M parameters (Esser et al. 2021, table 8: 24 blocks of width 1024).
    pub fn vqgan() -> Self {
        Self {
            vocab_size: 1024,
            n_positions: 512,
            n_embd: 1024,
            n_layer: 24,
            n_head: 16,
            n_inner: 4 * 1024,
            activation_function: Unary::Gelu,
            tie_word_embeddings: false,
            ..Self::gpt2()
        }
    }

    /// The preset of this name: `gpt2` or `vqgan`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gpt2" => Self::gpt2(),
            "vqgan" => Self::vqgan(),
            _ => return None,
        })
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights, names: &Names) {
        if let Some(&[vocab, width]) = weights.shape(&names.token_table()) {
            if self.n_inner == 4 * self.n_embd {
                self.n_inner = 4 * width;
            }
            (self.vocab_size, self.n_embd) = (vocab, width);
        }
        if let Some(&[.., length, _]) = weights.shape(&names.position_table()) {
            self.n_positions = length;
        }
        let inner = |i: usize| weights.shape(&names.first_inner(i));
        if let Some(&outputs) = inner(0).and_then(|shape| shape.get(names.output_axis())) {
            self.n_inner = outputs;
            self.n_layer = (0..MAX_LAYERS).take_while(|&i| inner(i).is_some()).count();
        }
        self.tie_word_embeddings |= names.may_tie() && weights.shape("lm_head.weight").is_none();
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        let (width, heads, layers) = (self.n_embd, self.n_head, self.n_layer);
        if width == 0 || heads == 0 || !width.is_multiple_of(heads) {
            return wrong(format!("{heads} heads do not divide a width of {width}"));
        }
        if layers > MAX_LAYERS {
            return wrong(format!("{layers} blocks are more than {MAX_LAYERS}"));
        }
        if [self.vocab_size, self.n_positions, self.n_inner].contains(&0) {
            return wrong("a vocabulary, a text and a perceptron have to hold something".into());
        }
        Ok(self)
    }

    /// What multiplies the scores of block `i`.
    pub(super) fn scale(&self, i: usize) -> Option<f32> {
        let width = self.n_embd / self.n_head.max(1);
        let scale = if self.scale_attn_weights { 1.0 / (width as f32).sqrt() } else { 1.0 };
        let depth = if self.scale_attn_by_inverse_layer_idx { i + 1 } else { 1 };
        Some(scale / depth as f32)
    }
}
