//! DETR: "End-to-End Object Detection with Transformers" (Carion et al. 2020, <https://arxiv.org/abs/2005.12872>).
//!
//! Reads transformers' `DetrForObjectDetection` and `DetrForSegmentation` with a ResNet of timm's or of transformers' own, and the names that
//! transformers has in memory since version 5. Input: `pixel_values` `[batch, height, width, 3]` and, where pictures of
//! different sizes are padded together, `pixel_mask` `[batch, height, width]`, true where there is a picture.
//! `DetrForSegmentation` gives `pred_masks` `[batch, queries, rows, columns]` besides, logits at a quarter of the image's size.
//! Outputs: `logits` `[batch, queries, labels + 1]`, `pred_boxes` `[batch, queries, 4]` (centre and size, as shares of the
//! picture), `last_hidden_state`, `encoder_last_hidden_state`; and what is made of them on the device: `scores` and
//! `labels` `[batch, queries]` of the likeliest class that is an object, `boxes` `[batch, queries, 4]` (corners, as shares).

mod config;
mod masks;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kiln_graph::ops::{AttentionOptions, BoxFormat, Conv2d, Reduction, SinePosition2d, Unary};
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor, Value};

pub use config::{Config, PositionEmbedding};
use masks::{MaskHead, Seen};
use names::Names;

use crate::layers::{attention_scores, layer_norm, linear, masked};
use crate::resnet::ResNet;
use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// Added to the variances of layer norms.
const EPS: f32 = 1e-5;

/// Rows and columns that learned position embeddings are for.
const LEARNED: usize = 50;

/// A detector: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct Detr {
    config: Config,
    names: Names,
    backbone: ResNet,
}

/// What a graph's images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub batch: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// What is done about those that are smaller than the batch.
    pub padding: Padding,
}

/// How pictures of different sizes share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// They do not: all are of one size, and there is no `pixel_mask`.
    None,
    /// As in transformers: the mask keeps attention off the padding, whose zeros the backbone turns into something else,
    /// and that is seen at a picture's edges.
    Attention,
    /// The backbone keeps the padding 0 too, so that a picture gives what it gives alone.
    Everywhere,
}

/// The encoder's result, which every decoder layer reads.
#[derive(Clone, Copy)]
struct Memory {
    /// `[batch, length, d_model]`.
    values: Value,
    /// The same with positions, which keys are made of.
    keys: Value,
    /// What may be looked at, `[batch, 1, 1, length]`.
    mask: Option<Value>,
}

impl Detr {
    /// The detector that `config` describes and `weights` hold.
    pub fn new(mut config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        let names = Names::of(weights);
        config.fit(weights, &names);
        let backbone = ResNet::backbone(config.backbone.clone(), weights, &names.backbone());
        config.backbone = backbone.config().clone();
        let detr = Self { config: config.checked()?, names, backbone };
        // One small graph shows all that the model wants.
        let images = Images { batch: 1, size: [32; 2], padding: Padding::None };
        check(&detr.graph(images, &Taps::none())?, weights, &|name| name.ends_with("num_batches_tracked"))?;
        Ok(detr)
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The graph for such images. Taps: `feature_map`, `position_embedding`, `projected`, `encoder_layer<i>`,
    /// `decoder_layer<i>`, `cross_attention<i>`.
    pub fn graph(&self, images: Images, taps: &Taps) -> Result<Graph, Error> {
        let Images { batch, size: [height, width], padding } = images;
        if height == 0 || width == 0 {
            return Err(Error::Input(format!("an image of {height} x {width} has no pixel")));
        }
        let mut b = Builder::new();
        let shape = [batch, height, width, self.config.backbone.num_channels];
        let pixels = b.input("pixel_values", shape, DType::F32)?;
        let mask = match padding {
            Padding::None => None,
            _ => Some(b.input("pixel_mask", [batch, height, width], DType::Bool)?),
        };
        let frame = mask.filter(|_| padding == Padding::Everywhere);
        self.build(&mut b, pixels, mask, frame, taps)?;
        Ok(b.finish())
    }

    /// Paths of the nodes that should stay f32 where the rest is stored in f16: the heads and what follows them, whose
    /// numbers become pixels.
    pub fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        let heads = ["class_labels_classifier", "bbox_predictor"].map(|head| self.names.head(head));
        let kept = |path: &String| path.is_empty() || heads.iter().any(|head| path.starts_with(head));
        graph.nodes().iter().map(|node| node.path.clone()).filter(kept).collect()
    }

    fn build(
        &self,
        b: &mut Builder,
        pixels: Value,
        mask: Option<Value>,
        frame: Option<Value>,
        taps: &Taps,
    ) -> Result<(), GraphError> {
        let d = self.config.d_model;
        let stages = self.backbone.stages(b, pixels, frame, &Taps::none())?;
        let features = stages.last().copied().unwrap_or(pixels);
        taps.tap(b, "feature_map", features)?;
        let [batch, rows, columns, channels] = *b.shape(features) else { return Ok(()) };
        let length = rows * columns;
        let projected = b.scope(self.names.model("input_projection"), |b| {
            let (weight, bias) = (b.weight("weight", [d, channels, 1, 1])?, b.weight("bias", [d])?);
            b.conv2d(features, weight, Some(bias), Conv2d::default())
        })?;
        taps.tap(b, "projected", projected)?;
        let mask = match mask {
            Some(mask) if frame.is_some() => Some(ResNet::frame(b, mask, [rows, columns])?),
            Some(mask) => Some(shrink(b, mask, [rows, columns])?),
            None => None,
        };
        let position = b.scope(self.names.model("position_embedding"), |b| {
            self.position_embedding(b, mask, [rows, columns])
        })?;
        if taps.wants("position_embedding") {
            let whole = b.expand(position, [batch, rows, columns, d])?;
            taps.tap(b, "position_embedding", whole)?;
        }
        let copies = b.shape(position).first().copied().unwrap_or(1);
        let position = b.reshape(position, [copies, length, d])?;
        let mask = match mask {
            Some(mask) => Some(b.reshape(mask, [batch, 1, 1, length])?),
            None => None,
        };
        let mut x = b.reshape(projected, [batch, length, d])?;
        for i in 0..self.config.encoder_layers {
            x = b.scope(self.names.layer("encoder", i), |b| self.encoder_layer(b, x, position, mask))?;
            taps.tap(b, &format!("encoder_layer{i}"), x)?;
        }
        b.output("encoder_last_hidden_state", x)?;
        let keys = b.add(x, position)?;
        let found = self.decoder(b, Memory { values: x, keys, mask }, taps)?;
        b.output("last_hidden_state", found)?;
        if let (true, &[first, second, third, _]) = (self.config.masks, &stages[..]) {
            let head = MaskHead {
                names: &self.names,
                d_model: d,
                heads: self.config.encoder_attention_heads,
                activation: self.config.activation_function,
            };
            let stages = [first, second, third];
            let masks = head.build(b, &Seen { queries: found, memory: x, mask, projected, stages })?;
            b.output("pred_masks", masks)?;
        }
        self.heads(b, found)
    }

    /// `[1 or batch, rows, columns, d_model]`.
    fn position_embedding(
        &self,
        b: &mut Builder,
        mask: Option<Value>,
        [rows, columns]: [usize; 2],
    ) -> Result<Value, GraphError> {
        let half = self.config.d_model / 2;
        match self.config.position_embedding {
            PositionEmbedding::Sine => {
                let mask = match mask {
                    Some(mask) => mask,
                    None => b.constant(Tensor::bool([1, rows, columns], vec![1; rows * columns])?),
                };
                b.op(SinePosition2d::detr(half), &[mask])
            }
            PositionEmbedding::Learned => {
                if rows.max(columns) > LEARNED {
                    let reason = format!("it is for {LEARNED} rows and columns, not {rows} and {columns}");
                    return Err(GraphError::Value { what: "weight", name: b.path(), reason });
                }
                let mut table = |name: &str, count: usize, shape: [usize; 4]| {
                    let table = b.scope(name, |b| b.weight("weight", [LEARNED, half]))?;
                    let table = b.slice(table, 0, 0, count)?;
                    let table = b.reshape(table, shape)?;
                    b.expand(table, [1, rows, columns, half])
                };
                let x = table("column_embeddings", columns, [1, 1, columns, half])?;
                let y = table("row_embeddings", rows, [1, rows, 1, half])?;
                b.concat(&[x, y], 3)
            }
        }
    }

    /// A post-norm encoder layer. Positions are added to what queries and keys are made of, not to values.
    fn encoder_layer(
        &self,
        b: &mut Builder,
        x: Value,
        position: Value,
        mask: Option<Value>,
    ) -> Result<Value, GraphError> {
        let options =
            AttentionOptions { mask, ..AttentionOptions::heads(self.config.encoder_attention_heads) };
        let placed = b.add(x, position)?;
        let attended = self.attention(b, "self_attn", [placed, placed, x], &options, None)?;
        let x = b.add(attended, x)?;
        let x = layer_norm(b, "self_attn_layer_norm", x, EPS)?;
        self.perceptron(b, x, self.config.encoder_ffn_dim)
    }

    /// Object queries, through the decoder: `[batch, queries, d_model]`.
    fn decoder(&self, b: &mut Builder, memory: Memory, taps: &Taps) -> Result<Value, GraphError> {
        let (queries, d) = (self.config.num_queries, self.config.d_model);
        let batch = b.shape(memory.values).first().copied().unwrap_or(1);
        let query_position = b.scope(self.names.model("query_position_embeddings"), |b| {
            let weight = b.weight("weight", [queries, d])?;
            b.reshape(weight, [1, queries, d])
        })?;
        // Up to the first look at the picture everything is the same for all pictures, and constant.
        let mut x = b.constant(Tensor::f32([1, queries, d], vec![0.0; queries * d])?);
        for i in 0..self.config.decoder_layers {
            x = b.scope(self.names.layer("decoder", i), |b| {
                let look = format!("cross_attention{i}");
                self.decoder_layer(b, x, query_position, memory, taps.wants(&look).then_some((taps, look)))
            })?;
            taps.tap(b, &format!("decoder_layer{i}"), x)?;
        }
        let x = layer_norm(b, &self.names.model("decoder.layernorm"), x, EPS)?;
        b.expand(x, [batch, queries, d])
    }

    /// A post-norm decoder layer: queries look at each other, then at the picture.
    fn decoder_layer(
        &self,
        b: &mut Builder,
        x: Value,
        query_position: Value,
        memory: Memory,
        look: Option<(&Taps, String)>,
    ) -> Result<Value, GraphError> {
        let options = AttentionOptions::heads(self.config.decoder_attention_heads);
        let placed = b.add(x, query_position)?;
        let attended = self.attention(b, "self_attn", [placed, placed, x], &options, None)?;
        let x = b.add(attended, x)?;
        let x = layer_norm(b, "self_attn_layer_norm", x, EPS)?;
        let batch = b.shape(memory.values).first().copied().unwrap_or(1);
        let x = b.expand(x, [batch, self.config.num_queries, self.config.d_model])?;
        let placed = b.add(x, query_position)?;
        let options = AttentionOptions { mask: memory.mask, ..options };
        let attended =
            self.attention(b, "encoder_attn", [placed, memory.keys, memory.values], &options, look)?;
        let x = b.add(attended, x)?;
        let x = layer_norm(b, "encoder_attn_layer_norm", x, EPS)?;
        self.perceptron(b, x, self.config.decoder_ffn_dim)
    }

    /// Multi-head attention of what queries, keys and values are made of. A tap gives its weights, `[batch, heads, queries,
    /// keys]`.
    fn attention(
        &self,
        b: &mut Builder,
        module: &str,
        [q, k, v]: [Value; 3],
        options: &AttentionOptions,
        look: Option<(&Taps, String)>,
    ) -> Result<Value, GraphError> {
        let d = self.config.d_model;
        b.scope(module, |b| {
            let q = linear(b, "q_proj", q, d, true)?;
            let k = linear(b, "k_proj", k, d, true)?;
            let v = linear(b, "v_proj", v, d, true)?;
            if let Some((taps, name)) = look {
                let scores = attention_scores(b, q, k, options.heads)?;
                let scores = masked(b, scores, options.mask)?;
                let weights = b.softmax(scores, -1)?;
                taps.tap(b, &name, weights)?;
            }
            let attended = b.scaled_dot_product_attention(q, k, v, options)?;
            linear(b, self.names.output(), attended, d, true)
        })
    }

    /// `norm(x + fc2(activation(fc1(x))))`.
    fn perceptron(&self, b: &mut Builder, x: Value, inner: usize) -> Result<Value, GraphError> {
        let y = linear(b, self.names.fc1(), x, inner, true)?;
        let y = b.unary(self.config.activation_function, y)?;
        let y = linear(b, self.names.fc2(), y, self.config.d_model, true)?;
        let x = b.add(y, x)?;
        layer_norm(b, "final_layer_norm", x, EPS)
    }

    /// Classes and boxes of `x` `[batch, queries, d_model]`, and the answer that is made of them.
    fn heads(&self, b: &mut Builder, x: Value) -> Result<(), GraphError> {
        let (d, labels) = (self.config.d_model, self.config.num_labels);
        let logits = linear(b, &self.names.head("class_labels_classifier"), x, labels + 1, true)?;
        let mut boxes = x;
        for (i, width) in [d, d, 4].into_iter().enumerate() {
            boxes = linear(b, &self.names.head(&format!("bbox_predictor.layers.{i}")), boxes, width, true)?;
            boxes = b.unary(if i < 2 { Unary::Relu } else { Unary::Sigmoid }, boxes)?;
        }
        b.output("logits", logits)?;
        b.output("pred_boxes", boxes)?;
        let shares = b.softmax(logits, -1)?;
        let objects = b.slice(shares, 2, 0, labels)?;
        let scores = b.reduce(Reduction::Max, objects, [2], false)?;
        let classes = b.argmax(objects, 2)?;
        let corners = b.box_convert(boxes, BoxFormat::Cxcywh, BoxFormat::Xyxy)?;
        b.output("scores", scores)?;
        b.output("labels", classes)?;
        b.output("boxes", corners)
    }
}

/// A mask `[batch, height, width]` at the features' size, by the nearest pixel, as PyTorch's `interpolate` has it.
fn shrink(b: &mut Builder, mask: Value, size: [usize; 2]) -> Result<Value, GraphError> {
    let mut mask = mask;
    for (axis, to) in [(1, size[0]), (2, size[1])] {
        let from = b.shape(mask).get(axis).copied().unwrap_or(0);
        let scale = from as f32 / to as f32;
        let ids: Vec<i32> =
            (0..to).map(|i| ((i as f32 * scale) as usize).min(from.saturating_sub(1)) as i32).collect();
        let ids = b.constant(Tensor::i32([to], ids)?);
        mask = b.gather(mask, ids, axis)?;
    }
    Ok(mask)
}
