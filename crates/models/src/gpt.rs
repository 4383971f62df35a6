//! GPT: "Language Models are Unsupervised Multitask Learners" (Radford et al. 2019), a transformer that gives each token's
//! likely successors from the tokens before it; and minGPT (<https://github.com/karpathy/minGPT>), in which the second stage
//! of VQGAN (Esser et al. 2021, <https://arxiv.org/abs/2012.09841>) writes codes.
//!
//! Reads transformers' `GPT2LMHeadModel` and `GPT2Model` with its published names, and minGPT's as taming-transformers has
//! them. Three graphs compute the same: [`Gpt::graph`] all tokens at once, [`Gpt::window_graph`] the successors of one of
//! them, and [`Gpt::step_graph`] those of a single new token, with the keys and values of the tokens before it in states
//! that stay on the device.

mod config;
mod decoder;
mod names;
#[cfg(test)]
pub(crate) mod tests;

use kiln_graph::ops::{AttentionLayout, ScaledDotProductAttention};
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::Config;
pub use decoder::{Decoder, Window};
use names::Names;

use crate::layers::{layer_norm, linear};
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// A transformer: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct Gpt {
    config: Config,
    names: Names,
}

/// Room for keys and values, and how many of the tokens before are in it.
struct Past {
    capacity: usize,
    position: Value,
}

impl Gpt {
    /// The transformer that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        let names = Names::of(weights);
        config.fit(weights, &names);
        let gpt = Self { config: config.checked()?, names };
        // One small graph shows all that the model wants.
        let graph = gpt.graph(1, 1, &Taps::none())?;
        check(&graph, weights, &|name| gpt.names.may_ignore(name))?;
        Ok(gpt)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Refuses tokens that the vocabulary does not have. A graph that is given such a token takes the vocabulary's nearer end
    /// for it, so whoever has tokens on the host asks here before they are uploaded.
    pub fn check_tokens(&self, tokens: &[i32]) -> Result<(), Error> {
        let vocab = self.config.vocab_size;
        match tokens.iter().find(|&&token| usize::try_from(token).map_or(true, |token| token >= vocab)) {
            None => Ok(()),
            Some(token) => {
                Err(Error::Input(format!("token {token} is none of the {vocab} of the vocabulary")))
            }
        }
    }

    /// The graph for `batch` texts of `length` tokens. Input `input_ids` `[batch, length]` in i32; output `logits` `[batch,
    /// length, vocab_size]`, of the successor of each token. Taps: `attn<i>`, `mlp<i>`, `block<i>` and `ln_f`.
    /// [`Error::Input`] where they are longer than the model takes.
    pub fn graph(&self, batch: usize, length: usize, taps: &Taps) -> Result<Graph, Error> {
        self.admit(batch, length)?;
        let mut b = Builder::new();
        let ids = b.input("input_ids", [batch, length], DType::I32)?;
        let positions = self.names.positions(&mut b, &self.config)?;
        let positions = b.slice(positions, 0, 0, length)?;
        let x = self.blocks(&mut b, ids, positions, None, taps)?;
        let logits = self.head(&mut b, x, taps)?;
        b.output("logits", logits)?;
        Ok(b.finish())
    }

    /// As [`Gpt::graph`], but gives the logits of one token's successor alone: that at `last`, an input in i32 of shape
    /// `[1]`. Tokens behind it do not count. Outputs as [`Gpt::step_graph`].
    pub fn window_graph(&self, batch: usize, length: usize, top_k: Option<usize>) -> Result<Graph, Error> {
        self.admit(batch, length)?;
        let (mut b, width) = (Builder::new(), self.config.n_embd);
        let ids = b.input("input_ids", [batch, length], DType::I32)?;
        let last = b.input("last", [1], DType::I32)?;
        let positions = self.names.positions(&mut b, &self.config)?;
        let positions = b.slice(positions, 0, 0, length)?;
        let x = self.blocks(&mut b, ids, positions, None, &Taps::none())?;
        let last = b.reshape(last, [1, 1, 1])?;
        let last = b.expand(last, [batch, 1, width])?;
        let x = b.take_along(x, last, 1)?;
        self.successors(&mut b, x, top_k)?;
        Ok(b.finish())
    }

    /// The graph for one more token of each of `batch` texts, of up to `capacity` tokens. Inputs `input_ids` `[batch, 1]` in
    /// i32 and `position` (u32 of shape `[]`), the tokens before it; states `past<i>` `[batch, capacity, 2 * n_embd]`, a
    /// block's keys and then its values. Output `logits` `[batch, vocab_size]`; with `top_k` the largest alone, `[batch,
    /// top_k]` in order, and `tokens` (i32), whose they are.
    pub fn step_graph(&self, batch: usize, capacity: usize, top_k: Option<usize>) -> Result<Graph, Error> {
        self.admit(batch, capacity)?;
        let mut b = Builder::new();
        let ids = b.input("input_ids", [batch, 1], DType::I32)?;
        let position = b.input("position", [], DType::U32)?;
        let positions = self.names.positions(&mut b, &self.config)?;
        let at = b.cast(position, DType::I32)?;
        let at = b.reshape(at, [1])?;
        let positions = b.embedding(at, positions)?;
        let past = Past { capacity, position };
        let x = self.blocks(&mut b, ids, positions, Some(&past), &Taps::none())?;
        self.successors(&mut b, x, top_k)?;
        Ok(b.finish())
    }

    /// The outputs of hidden tokens `[batch, 1, n_embd]`.
    fn successors(&self, b: &mut Builder, x: Value, top_k: Option<usize>) -> Result<(), GraphError> {
        let logits = self.head(b, x, &Taps::none())?;
        let logits = b.squeeze(logits, 1)?;
        let Some(k) = top_k.filter(|&k| k < self.config.vocab_size) else {
            return b.output("logits", logits);
        };
        let (logits, tokens) = b.top_k(logits, k.max(1), 1)?;
        b.output("logits", logits)?;
        b.output("tokens", tokens)
    }

    fn admit(&self, batch: usize, length: usize) -> Result<(), Error> {
        let longest = self.config.n_positions;
        if batch == 0 || length == 0 || length > longest {
            return Err(Error::Input(format!(
                "{batch} texts of {length} tokens are not some of 1 to {longest}"
            )));
        }
        Ok(())
    }

    /// Tokens `[batch, length]` and what `[length, n_embd]` says of their places, behind all blocks: `[batch, length,
    /// n_embd]`.
    fn blocks(
        &self,
        b: &mut Builder,
        ids: Value,
        positions: Value,
        past: Option<&Past>,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let tokens = self.names.tokens(b, &self.config)?;
        let tokens = b.embedding(ids, tokens)?;
        let mut x = b.add(tokens, positions)?;
        for i in 0..self.config.n_layer {
            x = b.scope(self.names.block(i), |b| self.block(b, i, x, past, taps))?;
            taps.tap(b, &format!("block{i}"), x)?;
        }
        Ok(x)
    }

    /// A pre-norm block, in which a token sees itself and those before it.
    fn block(
        &self,
        b: &mut Builder,
        i: usize,
        x: Value,
        past: Option<&Past>,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let (config, names) = (&self.config, &self.names);
        let normed = layer_norm(b, names.norm(1), x, config.layer_norm_epsilon)?;
        let (query, key_value) = b.scope("attn", |b| names.projections(b, normed))?;
        let attended = self.attend(b, i, query, key_value, past)?;
        let attended =
            b.scope("attn", |b| names.linear(b, names.attention_output(), attended, config.n_embd))?;
        taps.tap(b, &format!("attn{i}"), attended)?;
        let x = b.add(attended, x)?;
        let normed = layer_norm(b, names.norm(2), x, config.layer_norm_epsilon)?;
        let y = b.scope("mlp", |b| {
            let inner = names.linear(b, names.perceptron(0), normed, config.n_inner)?;
            let inner = b.unary(config.activation_function, inner)?;
            names.linear(b, names.perceptron(1), inner, config.n_embd)
        })?;
        taps.tap(b, &format!("mlp{i}"), y)?;
        b.add(y, x)
    }

    fn attend(
        &self,
        b: &mut Builder,
        i: usize,
        query: Value,
        key_value: Value,
        past: Option<&Past>,
    ) -> Result<Value, GraphError> {
        let op = ScaledDotProductAttention {
            layout: AttentionLayout::PackedKeyValue,
            scale: self.config.scale(i),
            causal: true,
            position: past.is_some(),
            ..ScaledDotProductAttention::new(self.config.n_head)
        };
        let Some(past) = past else { return b.op(op, &[query, key_value]) };
        let (batch, width) = (b.shape(key_value).first().copied().unwrap_or(0), b.desc(key_value).last());
        let state = b.state(format!("past{i}"), [batch, past.capacity, width], DType::F32)?;
        let all = b.cache_append(state, key_value, past.position)?;
        b.update(state, all)?;
        b.op(op, &[query, all, past.position])
    }

    /// The logits `[..., vocab_size]` of hidden tokens.
    fn head(&self, b: &mut Builder, x: Value, taps: &Taps) -> Result<Value, GraphError> {
        let (config, names) = (&self.config, &self.names);
        let x = layer_norm(b, &names.last_norm(), x, config.layer_norm_epsilon)?;
        taps.tap(b, "ln_f", x)?;
        if config.tie_word_embeddings {
            let tokens = names.tokens(b, config)?;
            return b.scope(names.head(), |b| b.linear(x, tokens, None));
        }
        linear(b, names.head(), x, config.vocab_size, false)
    }
}
