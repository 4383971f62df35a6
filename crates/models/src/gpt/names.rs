//! The names and layouts of a transformer's weights.

use kiln_graph::{Builder, GraphError, Value};

use super::Config;
use crate::layers::linear;
use crate::weights::Weights;

/// Whose names and layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// transformers': linear layers are `[inputs, outputs]`, and one makes queries, keys and values.
    Gpt2,
    /// minGPT's: linear layers are `[outputs, inputs]`, each of its own.
    MinGpt,
}

/// The weights' names, and what stands before them all.
#[derive(Clone, Debug)]
pub(super) struct Names {
    style: Style,
    prefix: &'static str,
    head: &'static str,
}

impl Names {
    /// Whose names `weights` has. Published files of GPT-2 have no `transformer.`, and those of models of two stages have it
    /// before minGPT's names.
    pub fn of(weights: &dyn Weights) -> Self {
        let has = |name: &str| weights.shape(name).is_some();
        let (style, prefix, head) = if has("transformer.tok_emb.weight") {
            (Style::MinGpt, "transformer.", "transformer.head")
        } else if has("tok_emb.weight") {
            (Style::MinGpt, "", "head")
        } else if has("wte.weight") {
            (Style::Gpt2, "", "lm_head")
        } else {
            (Style::Gpt2, "transformer.", "lm_head")
        };
        Self { style, prefix, head }
    }

    fn pick(&self, gpt2: &'static str, mingpt: &'static str) -> &'static str {
        match self.style {
            Style::Gpt2 => gpt2,
            Style::MinGpt => mingpt,
        }
    }

    fn named(&self, gpt2: &'static str, mingpt: &'static str) -> String {
        format!("{}{}", self.prefix, self.pick(gpt2, mingpt))
    }

    /// What each token means.
    pub fn token_table(&self) -> String {
        self.named("wte.weight", "tok_emb.weight")
    }

    /// What each place means.
    pub fn position_table(&self) -> String {
        self.named("wpe.weight", "pos_emb")
    }

    /// Block `i`.
    pub fn block(&self, i: usize) -> String {
        self.named("h.", "blocks.") + &i.to_string()
    }

    /// The first layer of block `i`'s perceptron.
    pub fn first_inner(&self, i: usize) -> String {
        format!("{}.mlp.{}.weight", self.block(i), self.perceptron(0))
    }

    /// The axis of a linear layer's weight that has its outputs.
    pub fn output_axis(&self) -> usize {
        match self.style {
            Style::Gpt2 => 1,
            Style::MinGpt => 0,
        }
    }

    /// A block's norm before its attention, 1, or before its perceptron, 2.
    pub fn norm(&self, which: usize) -> &'static str {
        if which == 1 { self.pick("ln_1", "ln1") } else { self.pick("ln_2", "ln2") }
    }

    /// The norm behind all blocks.
    pub fn last_norm(&self) -> String {
        self.named("ln_f", "ln_f")
    }

    /// What makes logits.
    pub fn head(&self) -> &'static str {
        self.head
    }

    /// Whether a file may leave the head out, where it is the table of tokens.
    pub fn may_tie(&self) -> bool {
        self.style == Style::Gpt2
    }

    /// Behind the attention.
    pub fn attention_output(&self) -> &'static str {
        self.pick("c_proj", "proj")
    }

    /// The perceptron's layers.
    pub fn perceptron(&self, layer: usize) -> &'static str {
        if layer == 0 { self.pick("c_fc", "0") } else { self.pick("c_proj", "2") }
    }

    /// The table of tokens, `[vocab_size, n_embd]`.
    pub fn tokens(&self, b: &mut Builder, config: &Config) -> Result<Value, GraphError> {
        b.weight(&self.token_table(), [config.vocab_size, config.n_embd])
    }

    /// The table of places, `[n_positions, n_embd]`.
    pub fn positions(&self, b: &mut Builder, config: &Config) -> Result<Value, GraphError> {
        let (length, width) = (config.n_positions, config.n_embd);
        match self.style {
            Style::Gpt2 => b.weight(&self.position_table(), [length, width]),
            Style::MinGpt => {
                let table = b.weight(&self.position_table(), [1, length, width])?;
                b.reshape(table, [length, width])
            }
        }
    }

    /// A linear layer: `[..., inputs]` to `[..., outputs]`.
    pub fn linear(
        &self,
        b: &mut Builder,
        module: &str,
        x: Value,
        outputs: usize,
    ) -> Result<Value, GraphError> {
        match self.style {
            Style::MinGpt => linear(b, module, x, outputs, true),
            Style::Gpt2 => b.scope(module, |b| {
                let weight = b.weight("weight", [b.desc(x).last(), outputs])?;
                let bias = b.weight("bias", [outputs])?;
                let y = b.matmul(x, weight)?;
                b.add(y, bias)
            }),
        }
    }

    /// Queries, and keys beside values, of tokens `[..., n_embd]`: two products, whoever wrote the weights.
    pub fn projections(&self, b: &mut Builder, x: Value) -> Result<(Value, Value), GraphError> {
        let width = b.desc(x).last();
        match self.style {
            Style::Gpt2 => b.scope("c_attn", |b| {
                let weight = b.weight("weight", [width, 3 * width])?;
                let bias = b.weight("bias", [3 * width])?;
                let mut part = |start: usize, end: usize| {
                    let weight = b.slice(weight, 1, start, end)?;
                    let bias = b.slice(bias, 0, start, end)?;
                    let y = b.matmul(x, weight)?;
                    b.add(y, bias)
                };
                Ok((part(0, width)?, part(width, 3 * width)?))
            }),
            Style::MinGpt => {
                let query = linear(b, "query", x, width, true)?;
                let mut both = |name: &str, shape: &[usize]| {
                    let key = b.weight(&format!("key.{name}"), shape)?;
                    let value = b.weight(&format!("value.{name}"), shape)?;
                    b.concat(&[key, value], 0)
                };
                let (weight, bias) = (both("weight", &[width, width])?, both("bias", &[width])?);
                Ok((query, b.scope("key_value", |b| b.linear(x, weight, Some(bias)))?))
            }
        }
    }

    /// Whether a tensor that the graph does not use may be there: masks that older files hold, a head that is the table of
    /// tokens, and what stands beside the transformer in a model of two stages.
    pub fn may_ignore(&self, name: &str) -> bool {
        let mask = [".attn.bias", ".attn.masked_bias", ".attn.mask"].iter().any(|end| name.ends_with(end));
        mask || name == "lm_head.weight"
            || (self.style == Style::MinGpt
                && self.prefix == "transformer."
                && !name.starts_with(self.prefix))
    }
}
