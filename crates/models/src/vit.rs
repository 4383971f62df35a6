//! Vision Transformer: "An Image is Worth 16x16 Words" (Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>),
//! and DeiT with its distillation token (Touvron et al. 2020, <https://arxiv.org/abs/2012.12877>).
//!
//! Reads the layouts of transformers (`ViTForImageClassification`, `ViTModel`, `DeiTForImageClassification`,
//! `DeiTForImageClassificationWithTeacher`; the names in files and those in memory) and of timm (`vit_*`, `deit_*`).
//! Input: `pixel_values` `[batch, height, width, channels]`. Outputs: `logits` `[batch, labels]`, for a teacher also
//! `cls_logits` and `distillation_logits`; without a classifier `last_hidden_state` `[batch, tokens, hidden_size]` and,
//! with a pooler, `pooler_output`.

mod config;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kiln_graph::ops::{AttentionOptions, Interpolate, InterpolateMode, Unary};
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::{Config, Pool, Timm};
pub use names::Layout;
use names::{Names, Part};

use crate::layers::{attention_scores, layer_norm, linear};
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// A Vision Transformer: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct Vit {
    config: Config,
    names: Names,
}

impl Vit {
    /// The model that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        let names = Names::of(weights, config.distilled);
        config.fit(weights, &names);
        let vit = Self { config: config.checked()?, names };
        // One small graph shows all that the model wants.
        check(&vit.graph(1, vit.config.image_size, &Taps::none())?, weights, &|name| vit.may_ignore(name))?;
        Ok(vit)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a tensor that the graph does not use may be there: a pooler or mask token beside a classifier.
    fn may_ignore(&self, name: &str) -> bool {
        name.contains("pooler.") || name.ends_with("mask_token") || name.ends_with("position_ids")
    }

    /// The graph for `batch` images of `image` height and width: input `pixel_values`, outputs as the module says.
    pub fn graph(&self, batch: usize, image: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        let mut b = Builder::new();
        let shape = [batch, image[0], image[1], self.config.num_channels];
        if self.config.grid(image).contains(&0) {
            let patch = self.config.patch_size;
            return Err(Error::Input(format!("an image of {image:?} holds no patch of {patch:?}")));
        }
        let pixel_values = b.input("pixel_values", shape, DType::F32)?;
        self.build(&mut b, pixel_values, taps)?;
        Ok(b.finish())
    }

    /// Paths of the nodes that should stay f32 where the rest is stored in f16: embeddings, final norm and classifier.
    /// They are a few percent of the work, and their rounding is more than half of the logits' error.
    pub fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        let layers: Vec<String> = (0..self.config.num_hidden_layers).map(|i| self.names.layer(i)).collect();
        let inside = |path: &str| {
            layers.iter().any(|layer| {
                path.strip_prefix(layer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        graph.nodes().iter().map(|node| node.path.clone()).filter(|path| !inside(path)).collect()
    }

    fn build(&self, b: &mut Builder, pixel_values: Value, taps: &Taps) -> Result<(), GraphError> {
        let config = &self.config;
        let mut x = self.embeddings(b, pixel_values, taps)?;
        for i in 0..config.num_hidden_layers {
            x = b.scope(self.names.layer(i), |b| self.layer(b, i, x, taps))?;
            taps.tap(b, &format!("layer{i}"), x)?;
            taps.tap(b, &format!("block{i}"), x)?;
        }
        if config.timm.norm {
            x = self.layer_norm(b, &self.names.final_norm(), x)?;
            taps.tap(b, "norm", x)?;
        }
        if config.num_labels == 0 {
            b.output("last_hidden_state", x)?;
            if config.pooler_output_size > 0 {
                let token = self.token(b, x, 0)?;
                let pooled = linear(b, &self.names.pooler(), token, config.pooler_output_size, true)?;
                let pooled = b.unary(config.pooler_act, pooled)?;
                b.output("pooler_output", pooled)?;
            }
            return Ok(());
        }
        let mut pooled = match config.pool {
            Pool::Token => self.token(b, x, 0)?,
            Pool::Average => self.average(b, x)?,
        };
        if config.timm.fc_norm {
            pooled = self.layer_norm(b, "fc_norm", pooled)?;
        }
        let mut logits = linear(b, self.names.head(), pooled, config.num_labels, true)?;
        if config.teacher {
            let token = self.token(b, x, 1)?;
            let head = self.names.distillation_head();
            let distillation = linear(b, head, token, config.num_labels, true)?;
            b.output("cls_logits", logits)?;
            b.output("distillation_logits", distillation)?;
            let sum = b.add(logits, distillation)?;
            logits = b.unary(Unary::Affine { scale: 0.5, offset: 0.0 }, sum)?;
        }
        b.output("logits", logits)
    }

    /// Patches, the tokens before them, and where they are: `[batch, tokens, hidden_size]`.
    fn embeddings(&self, b: &mut Builder, pixel_values: Value, taps: &Taps) -> Result<Value, GraphError> {
        let config = &self.config;
        let hidden = config.hidden_size;
        let (batch, image) = match *b.shape(pixel_values) {
            [batch, h, w, _] => (batch, [h, w]),
            _ => (0, [0; 2]),
        };
        let patches = self.patch_embeddings(b, pixel_values)?;
        taps.tap(b, "patch_embed", patches)?;
        let (prefix_positions, patch_positions) = self.positions(b, image)?;
        let mut tokens = Vec::new();
        for (name, length) in self.names.prefix(config) {
            tokens.push(b.weight(&name, [1, length, hidden])?);
        }
        // In full, so that the sum fuses into the projection.
        let patch_positions = b.expand(patch_positions, b.shape(patches).to_vec())?;
        let mut x = b.add(patches, patch_positions)?;
        if !tokens.is_empty() {
            let mut prefix = if let [token] = tokens[..] { token } else { b.concat(&tokens, 1)? };
            if let Some(positions) = prefix_positions {
                prefix = b.add(prefix, positions)?;
            }
            let prefix = b.expand(prefix, [batch, config.prefix_tokens(), hidden])?;
            x = b.concat(&[prefix, x], 1)?;
        }
        taps.tap(b, "embeddings", x)?;
        if config.timm.norm_pre {
            x = self.layer_norm(b, "norm_pre", x)?;
        }
        Ok(x)
    }

    /// A convolution whose stride is its kernel: one product over the pixels of each patch.
    fn patch_embeddings(&self, b: &mut Builder, pixel_values: Value) -> Result<Value, GraphError> {
        let config = &self.config;
        let ([p, q], channels, hidden) = (config.patch_size, config.num_channels, config.hidden_size);
        let [batch, h, w, _] = *b.shape(pixel_values) else { return Ok(pixel_values) };
        let [rows, columns] = config.grid([h, w]);
        let mut x = pixel_values;
        if [rows * p, columns * q] != [h, w] {
            x = b.slice(x, 1, 0, rows * p)?;
            x = b.slice(x, 2, 0, columns * q)?;
        }
        let x = b.reshape(x, [batch, rows, p, columns, q, channels])?;
        let x = b.permute(x, [0, 1, 3, 2, 4, 5])?;
        let x = b.reshape(x, [batch, rows * columns, p * q * channels])?;
        b.scope(self.names.patch(), |b| {
            let weight = b.weight("weight", [hidden, channels, p, q])?;
            let weight = b.permute(weight, [0, 2, 3, 1])?;
            let weight = b.reshape(weight, [hidden, p * q * channels])?;
            let bias = if config.timm.patch_bias { Some(b.weight("bias", [hidden])?) } else { None };
            b.linear(x, weight, bias)
        })
    }

    /// Position embeddings of the tokens before the patches, where they have any, and of the patches. For another image
    /// size than the model's the latter are interpolated: bicubic, by timm with antialiasing.
    fn positions(&self, b: &mut Builder, image: [usize; 2]) -> Result<(Option<Value>, Value), GraphError> {
        let config = &self.config;
        let (hidden, prefix) = (config.hidden_size, config.embedded_prefix());
        let ([rows, columns], [to_rows, to_columns]) = (config.grid(config.image_size), config.grid(image));
        let count = prefix + rows * columns;
        let positions = b.weight(&self.names.positions(), [1, count, hidden])?;
        let (before, mut patches) = if prefix == 0 {
            (None, positions)
        } else {
            (Some(b.slice(positions, 1, 0, prefix)?), b.slice(positions, 1, prefix, count)?)
        };
        if [rows, columns] != [to_rows, to_columns] {
            let grid = b.reshape(patches, [1, rows, columns, hidden])?;
            let mut how = Interpolate::size(InterpolateMode::Bicubic, [to_rows, to_columns]);
            if self.names.layout == Layout::Timm {
                how = how.antialias();
            }
            let grid = b.interpolate(grid, how)?;
            patches = b.reshape(grid, [1, to_rows * to_columns, hidden])?;
        }
        Ok((before, patches))
    }

    /// An encoder layer: attention, then a perceptron, each added to what went in.
    fn layer(&self, b: &mut Builder, i: usize, x: Value, taps: &Taps) -> Result<Value, GraphError> {
        let x = self.branch(b, Part::Norm1, "ls1", x, |b, x| {
            let attention = self.attention(b, i, x, taps)?;
            taps.tap(b, &format!("attention{i}"), attention)?;
            Ok(attention)
        })?;
        self.branch(b, Part::Norm2, "ls2", x, |b, x| {
            let inner = linear(b, self.names.part(Part::Fc1), x, self.config.intermediate_size, true)?;
            let inner = b.unary(self.config.hidden_act, inner)?;
            linear(b, self.names.part(Part::Fc2), inner, self.config.hidden_size, true)
        })
    }

    /// `x + scale(work(norm(x)))`, or `x + scale(norm(work(x)))`.
    fn branch(
        &self,
        b: &mut Builder,
        norm: Part,
        scale: &str,
        x: Value,
        work: impl FnOnce(&mut Builder, Value) -> Result<Value, GraphError>,
    ) -> Result<Value, GraphError> {
        let norm = self.names.part(norm);
        let done = if self.config.timm.res_post_norm {
            let done = work(b, x)?;
            self.layer_norm(b, norm, done)?
        } else {
            let normed = self.layer_norm(b, norm, x)?;
            work(b, normed)?
        };
        let done = self.layer_scale(b, scale, done)?;
        b.add(done, x)
    }

    /// Multi-head self-attention. The tap `attention_probs<i>` gives its weights, `[batch, heads, tokens, tokens]`.
    fn attention(&self, b: &mut Builder, i: usize, x: Value, taps: &Taps) -> Result<Value, GraphError> {
        let (hidden, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let name = |part: Part| self.names.part(part);
        let options = AttentionOptions::heads(heads);
        let bias = self.config.qkv_bias;
        let probs = format!("attention_probs{i}");
        let attended = if self.names.layout == Layout::Timm {
            let qkv = linear(b, name(Part::Qkv), x, 3 * hidden, bias)?;
            if self.config.timm.qk_norm || taps.wants(&probs) {
                let parts = b.chunk(qkv, 2, 3)?;
                let [q, k, v] = parts[..] else { return Ok(qkv) };
                let (q, k) = if self.config.timm.qk_norm {
                    (self.head_norm(b, "attn.q_norm", q)?, self.head_norm(b, "attn.k_norm", k)?)
                } else {
                    (q, k)
                };
                self.tap_probs(b, &probs, q, k, taps)?;
                b.scaled_dot_product_attention(q, k, v, &options)?
            } else {
                b.packed_attention(qkv, &options)?
            }
        } else {
            let q = linear(b, name(Part::Query), x, hidden, bias)?;
            let k = linear(b, name(Part::Key), x, hidden, bias)?;
            let v = linear(b, name(Part::Value), x, hidden, bias)?;
            self.tap_probs(b, &probs, q, k, taps)?;
            b.scaled_dot_product_attention(q, k, v, &options)?
        };
        linear(b, name(Part::Output), attended, hidden, true)
    }

    /// `softmax(q k^T / sqrt(head size))`, where it is wanted.
    fn tap_probs(
        &self,
        b: &mut Builder,
        name: &str,
        q: Value,
        k: Value,
        taps: &Taps,
    ) -> Result<(), GraphError> {
        if !taps.wants(name) {
            return Ok(());
        }
        let scores = attention_scores(b, q, k, self.config.num_attention_heads)?;
        let probs = b.softmax(scores, -1)?;
        taps.tap(b, name, probs)
    }

    /// Normalises each head's channels of `x` `[batch, tokens, hidden_size]`.
    fn head_norm(&self, b: &mut Builder, module: &str, x: Value) -> Result<Value, GraphError> {
        let heads = self.config.num_attention_heads;
        let size = self.config.hidden_size / heads;
        let shape = b.shape(x).to_vec();
        let split = [&shape[..shape.len().saturating_sub(1)], &[heads, size]].concat();
        let x = b.reshape(x, split)?;
        let x = layer_norm(b, module, x, self.config.layer_norm_eps)?;
        b.reshape(x, shape)
    }

    fn layer_scale(&self, b: &mut Builder, module: &str, x: Value) -> Result<Value, GraphError> {
        if !self.config.timm.layer_scale {
            return Ok(x);
        }
        b.scope(module, |b| {
            let gamma = b.weight("gamma", [self.config.hidden_size])?;
            b.mul(x, gamma)
        })
    }

    fn layer_norm(&self, b: &mut Builder, module: &str, x: Value) -> Result<Value, GraphError> {
        layer_norm(b, module, x, self.config.layer_norm_eps)
    }

    /// Token `i` of each image: `[batch, hidden_size]`.
    fn token(&self, b: &mut Builder, x: Value, i: usize) -> Result<Value, GraphError> {
        let token = b.slice(x, 1, i, i + 1)?;
        b.squeeze(token, 1)
    }

    /// The mean of the image's tokens: `[batch, hidden_size]`.
    fn average(&self, b: &mut Builder, x: Value) -> Result<Value, GraphError> {
        let (prefix, end) = (self.config.prefix_tokens(), b.shape(x).get(1).copied().unwrap_or(0));
        let patches = if prefix == 0 { x } else { b.slice(x, 1, prefix, end)? };
        b.mean(patches, [1], false)
    }
}
