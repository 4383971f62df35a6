//! Sizes and options of DETR.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::names::Names;
use crate::Error;
use crate::config::Config as Reader;
use crate::resnet;
use crate::weights::Weights;

/// How the encoder is told where a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionEmbedding {
    /// Sines and cosines of the place among the pixels that are not padding.
    Sine,
    /// A learned vector a row and one a column, of 50 each.
    Learned,
}

/// Sizes and options. Read them by [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The network that makes features of pixels.
    pub backbone: resnet::Config,
    /// Width of a token.
    pub d_model: usize,
    /// Encoder layers.
    pub encoder_layers: usize,
    /// Decoder layers.
    pub decoder_layers: usize,
    /// Attention heads of the encoder.
    pub encoder_attention_heads: usize,
    /// Attention heads of the decoder.
    pub decoder_attention_heads: usize,
    /// Width between the two layers of the encoder's perceptrons.
    pub encoder_ffn_dim: usize,
    /// Width between the two layers of the decoder's perceptrons.
    pub decoder_ffn_dim: usize,
    /// Their activation.
    pub activation_function: Unary,
    /// How many objects are looked for.
    pub num_queries: usize,
    /// Classes, without "no object".
    pub num_labels: usize,
    /// How the encoder is told where a pixel is.
    pub position_embedding: PositionEmbedding,
    /// Whether there is a head for masks (`DetrForSegmentation`).
    pub masks: bool,
}

impl Config {
    /// Reads transformers' `DetrConfig`, of today and of the time when the backbone was named beside it.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
        let d_model = size("d_model", 256)?;
        let labels = json.get("id2label").and_then(Json::as_object).map(serde_json::Map::len);
        Ok(Self {
            backbone: backbone(reader)?,
            d_model,
            encoder_layers: size("encoder_layers", 6)?,
            decoder_layers: size("decoder_layers", 6)?,
            encoder_attention_heads: size("encoder_attention_heads", 8)?,
            decoder_attention_heads: size("decoder_attention_heads", 8)?,
            encoder_ffn_dim: size("encoder_ffn_dim", 2048)?,
            decoder_ffn_dim: size("decoder_ffn_dim", 2048)?,
            activation_function: reader.activation("activation_function")?.unwrap_or(Unary::Relu),
            num_queries: size("num_queries", 100)?,
            num_labels: labels.or(reader.size("num_labels")?).unwrap_or(2),
            position_embedding: match reader.str("position_embedding_type")? {
                None | Some("sine") => PositionEmbedding::Sine,
                Some("learned") => PositionEmbedding::Learned,
                Some(other) => {
                    let reason = format!("position_embedding_type is {other:?}, not sine or learned");
                    return Err(Error::Config(reason));
                }
            },
            masks: reader.architecture() == Some("DetrForSegmentation"),
        })
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights, names: &Names) {
        let shape = |name: String| match weights.shape(&name) {
            Some(&[rows, columns]) => Some([rows, columns]),
            _ => None,
        };
        if let Some([queries, d_model]) = shape(names.model("query_position_embeddings.weight")) {
            (self.num_queries, self.d_model) = (queries, d_model);
        }
        self.masks = names.has_masks();
        if let Some([classes, _]) = shape(names.head("class_labels_classifier.weight")) {
            self.num_labels = classes.saturating_sub(1);
        }
        let count = |part: &str| {
            let there =
                |i: &usize| shape(format!("{}.{}.weight", names.layer(part, *i), names.fc1())).is_some();
            (0..4096).take_while(there).count()
        };
        let inner = |part: &str| shape(format!("{}.{}.weight", names.layer(part, 0), names.fc1()));
        if let Some([dim, _]) = inner("encoder") {
            (self.encoder_layers, self.encoder_ffn_dim) = (count("encoder"), dim);
        }
        if let Some([dim, _]) = inner("decoder") {
            (self.decoder_layers, self.decoder_ffn_dim) = (count("decoder"), dim);
        }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        for heads in [self.encoder_attention_heads, self.decoder_attention_heads] {
            if heads == 0 || self.d_model == 0 || !self.d_model.is_multiple_of(heads) {
                let reason = format!("{} channels cannot be shared by {heads} attention heads", self.d_model);
                return Err(Error::Config(reason));
            }
        }
        let (d, heads) = (self.d_model, self.encoder_attention_heads);
        let widths = [d + heads, d / 2, d / 4, d / 8, d / 16];
        // The head's group norms have eight groups, or as many as channels.
        if self.masks && widths.iter().any(|&width| width == 0 || !width.is_multiple_of(width.min(8))) {
            return Err(Error::Config(format!("{d} channels and {heads} heads make no head for masks")));
        }
        if self.masks && self.backbone.stages.len() != 4 {
            let stages = self.backbone.stages.len();
            return Err(Error::Config(format!(
                "a head for masks wants a backbone of 4 stages, not {stages}"
            )));
        }
        if !self.d_model.is_multiple_of(4) {
            return Err(Error::Config(format!("d_model is {}, no multiple of 4", self.d_model)));
        }
        if self.num_queries == 0 || self.num_labels == 0 {
            return Err(Error::Config("the model looks for nothing".into()));
        }
        Ok(self)
    }
}

/// The backbone of transformers' nested `backbone_config`, or of the older `backbone` and `dilation`.
fn backbone(json: Reader) -> Result<resnet::Config, Error> {
    let nested = json.nested("backbone_config");
    let mut config = match nested.str("model_type")? {
        Some("resnet") => resnet::Config::from_transformers(nested)?,
        Some("timm_backbone") => {
            resnet::Config::from_timm(nested.str("backbone")?.unwrap_or("resnet50"), nested)?
        }
        Some(other) => return Err(Error::Config(format!("the backbone is a {other}, which Kiln has not"))),
        None => resnet::Config::from_timm(json.str("backbone")?.unwrap_or("resnet50"), json)?,
    };
    if json.flag("dilation")? == Some(true) {
        config.output_stride = 16;
    }
    // The stem is number 0.
    if let Some(last) = nested.0.get("out_indices").and_then(Json::as_array).and_then(|all| all.last()) {
        let stages = config.stages.len();
        if last.as_i64() != Some(-1) && last.as_u64() != Some(stages as u64) {
            let reason =
                format!("out_indices end with {last}, and features are read from the last stage, {stages}");
            return Err(Error::Config(reason));
        }
    }
    config.num_labels = 0;
    Ok(config)
}
