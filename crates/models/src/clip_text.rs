//! CLIP's text encoder: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al. 2021,
//! <https://arxiv.org/abs/2103.00020>).
//!
//! Reads transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`, with the names of published files and those of
//! transformers 5, and the text's part of a whole `CLIPModel`. OpenCLIP's text encoders are published in this form too.
//! Inputs: `input_ids` `[batch, length]` in i32 and, where it is wanted, `attention_mask` `[batch, length]`, true where a
//! token may be looked at. Outputs: `last_hidden_state` `[batch, length, hidden_size]`, `pooler_output`
//! `[batch, hidden_size]` of the token that ends each text and, with a projection, `text_embeds` `[batch, projection_dim]`,
//! whose length is not made 1.

mod config;
mod names;
pub(crate) mod original;
#[cfg(test)]
pub(crate) mod tests;

use kiln_graph::ops::{AttentionOptions, Compare};
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor, Value};

pub use config::{Config, Pool};
use names::Names;

use crate::layers::{layer_norm, linear};
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// A text encoder: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct ClipText {
    config: Config,
    names: Names,
}

/// What a graph's prompts are, and which layer's answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// How many.
    pub batch: usize,
    /// Tokens of each.
    pub length: usize,
    /// Whether there is an `attention_mask`.
    pub masked: bool,
    /// How many of the last layers are left out, as diffusers' `clip_skip`: with 1, `last_hidden_state` is that of the
    /// layer before the last behind the final norm. From 1 on it is the only output, for the others are the last layer's.
    pub clip_skip: usize,
}

impl Prompts {
    /// So many prompts of so many tokens, without a mask, through all layers.
    pub fn new(batch: usize, length: usize) -> Self {
        Self { batch, length, masked: false, clip_skip: 0 }
    }
}

/// The name of the table of what each token means, `[vocab_size, hidden_size]`.
pub(crate) fn token_table(weights: &dyn Weights) -> String {
    Names::of(weights).model("embeddings.token_embedding.weight")
}

impl ClipText {
    /// The encoder that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        let names = Names::of(weights);
        config.fit(weights, &names);
        let clip = Self { config: config.checked()?, names };
        // One small graph shows all that the model wants.
        let graph = clip.graph(Prompts::new(1, 1), &Taps::none())?;
        check(&graph, weights, &|name| clip.names.may_ignore(name))?;
        Ok(clip)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What a graph has to know of `input_ids` `[batch, length]` in i32. [`Error::Input`] where they are too many or one is
    /// not of the vocabulary. A graph that is given such an id takes the vocabulary's nearer end for it, so whoever has ids
    /// on the host asks here before they are uploaded.
    pub fn prompts(&self, input_ids: &Tensor) -> Result<Prompts, Error> {
        let (&[batch, length], Some(ids)) = (input_ids.shape(), input_ids.as_i32()) else {
            let desc = input_ids.desc();
            return Err(Error::Input(format!("input_ids are {desc}, not i32 of [batch, length]")));
        };
        let vocab = self.config.vocab_size;
        let outside = |id: &&i32| usize::try_from(**id).map_or(true, |id| id >= vocab);
        if let Some(id) = ids.iter().find(outside) {
            return Err(Error::Input(format!("token {id} is none of the {vocab} of the vocabulary")));
        }
        let prompts = Prompts::new(batch, length);
        self.admit(prompts)?;
        Ok(prompts)
    }

    /// The graph for such prompts. Taps: `embeddings`, `layer<i>`, `mlp<i>` and `penultimate`, what goes into the last
    /// layer. [`Error::Input`] where they are longer than the model takes, or more layers are left out than there are.
    pub fn graph(&self, prompts: Prompts, taps: &Taps) -> Result<Graph, Error> {
        self.admit(prompts)?;
        let mut b = Builder::new();
        let shape = [prompts.batch, prompts.length];
        let ids = b.input("input_ids", shape, DType::I32)?;
        let mask = if prompts.masked { Some(b.input("attention_mask", shape, DType::Bool)?) } else { None };
        self.build(&mut b, ids, mask, prompts, taps)?;
        Ok(b.finish())
    }

    fn admit(&self, prompts: Prompts) -> Result<(), Error> {
        let (length, longest) = (prompts.length, self.config.max_position_embeddings);
        if length == 0 || length > longest {
            return Err(Error::Input(format!("a prompt of {length} tokens is not one of 1 to {longest}")));
        }
        let (skip, layers) = (prompts.clip_skip, self.config.num_hidden_layers);
        if skip > layers {
            return Err(Error::Input(format!("{skip} layers cannot be left out of {layers}")));
        }
        Ok(())
    }

    fn build(
        &self,
        b: &mut Builder,
        ids: Value,
        mask: Option<Value>,
        prompts: Prompts,
        taps: &Taps,
    ) -> Result<(), GraphError> {
        let Prompts { batch, length, clip_skip, .. } = prompts;
        let mask = match mask {
            Some(mask) => Some(b.reshape(mask, [batch, 1, 1, length])?),
            None => None,
        };
        let options = AttentionOptions {
            causal: true,
            mask,
            ..AttentionOptions::heads(self.config.num_attention_heads)
        };
        let mut x = self.embeddings(b, ids, length)?;
        taps.tap(b, "embeddings", x)?;
        let layers = self.config.num_hidden_layers;
        for i in 0..layers.saturating_sub(clip_skip) {
            if i + 1 == layers {
                taps.tap(b, "penultimate", x)?;
            }
            x = b.scope(self.names.layer(i), |b| self.layer(b, i, x, &options, taps))?;
            taps.tap(b, &format!("layer{i}"), x)?;
        }
        if clip_skip == 1 {
            taps.tap(b, "penultimate", x)?;
        }
        let x = layer_norm(b, &self.names.model("final_layer_norm"), x, self.config.layer_norm_eps)?;
        b.output("last_hidden_state", x)?;
        if clip_skip > 0 {
            return Ok(());
        }
        let pooled = self.pool(b, ids, x)?;
        b.output("pooler_output", pooled)?;
        if self.config.projection_dim > 0 {
            let embeds = linear(b, self.names.projection(), pooled, self.config.projection_dim, false)?;
            b.output("text_embeds", embeds)?;
        }
        Ok(())
    }

    /// What each token means and where it stands: `[batch, length, hidden_size]`.
    fn embeddings(&self, b: &mut Builder, ids: Value, length: usize) -> Result<Value, GraphError> {
        let config = &self.config;
        b.scope(self.names.model("embeddings"), |b| {
            let tokens = b.weight("token_embedding.weight", [config.vocab_size, config.hidden_size])?;
            let tokens = b.embedding(ids, tokens)?;
            let shape = [config.max_position_embeddings, config.hidden_size];
            let positions = b.weight("position_embedding.weight", shape)?;
            let positions = b.slice(positions, 0, 0, length)?;
            b.add(tokens, positions)
        })
    }

    /// A pre-norm encoder layer, in which a token sees itself and those before it.
    fn layer(
        &self,
        b: &mut Builder,
        i: usize,
        x: Value,
        options: &AttentionOptions,
        taps: &Taps,
    ) -> Result<Value, GraphError> {
        let config = &self.config;
        let (hidden, eps) = (config.hidden_size, config.layer_norm_eps);
        let normed = layer_norm(b, "layer_norm1", x, eps)?;
        let attended = b.scope("self_attn", |b| {
            let q = linear(b, "q_proj", normed, hidden, true)?;
            let k = linear(b, "k_proj", normed, hidden, true)?;
            let v = linear(b, "v_proj", normed, hidden, true)?;
            let attended = b.scaled_dot_product_attention(q, k, v, options)?;
            linear(b, "out_proj", attended, hidden, true)
        })?;
        let x = b.add(attended, x)?;
        let normed = layer_norm(b, "layer_norm2", x, eps)?;
        let y = b.scope("mlp", |b| {
            let inner = linear(b, "fc1", normed, config.intermediate_size, true)?;
            let inner = b.unary(config.hidden_act, inner)?;
            linear(b, "fc2", inner, hidden, true)
        })?;
        taps.tap(b, &format!("mlp{i}"), y)?;
        b.add(y, x)
    }

    /// The row of `x` `[batch, length, hidden_size]` of the token that ends each text: `[batch, hidden_size]`.
    fn pool(&self, b: &mut Builder, ids: Value, x: Value) -> Result<Value, GraphError> {
        let place = match self.config.pool {
            Pool::LargestId => b.argmax(ids, 1)?,
            Pool::FirstOf(id) => {
                let id = b.constant(Tensor::i32([1, 1], vec![id])?);
                let found = b.compare(Compare::Eq, ids, id)?;
                b.argmax(found, 1)?
            }
        };
        let (batch, hidden) = (b.shape(place).first().copied().unwrap_or(0), self.config.hidden_size);
        let place = b.reshape(place, [batch, 1, 1])?;
        let place = b.expand(place, [batch, 1, hidden])?;
        let row = b.take_along(x, place, 1)?;
        b.squeeze(row, 1)
    }
}
