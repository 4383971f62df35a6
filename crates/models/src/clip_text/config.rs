//! Sizes and options of CLIP's text encoders.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::names::Names;
use crate::Error;
use crate::config::Config as Reader;
use crate::weights::Weights;

/// Most layers that a configuration may ask for.
const MAX_LAYERS: usize = 1024;

/// The `eos_token_id` of old configurations, which is not the token that ends their texts.
const OLD_END: i32 = 2;

/// Which token of a prompt becomes `pooler_output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The first that has the largest id: the end of the text in CLIP's own vocabulary. Old configurations, whose
    /// `eos_token_id` is 2, mean this.
    LargestId,
    /// The first that has this id; the prompt's first token where none has it.
    FirstOf(i32),
}

/// Sizes and options. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many tokens there are.
    pub vocab_size: usize,
    /// The longest prompt, in tokens.
    pub max_position_embeddings: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width between the two layers of the perceptron.
    pub intermediate_size: usize,
    /// Its activation.
    pub hidden_act: Unary,
    /// Added to variances.
    pub layer_norm_eps: f32,
    /// Width of `text_embeds`; 0 where there is no projection.
    pub projection_dim: usize,
    /// Which token becomes `pooler_output`.
    pub pool: Pool,
}

impl Config {
    fn preset(hidden_size: usize, layers: usize, hidden_act: Unary) -> Self {
        Self {
            vocab_size: 49408,
            max_position_embeddings: 77,
            hidden_size,
            num_hidden_layers: layers,
            num_attention_heads: hidden_size / 64,
            intermediate_size: 4 * hidden_size,
            hidden_act,
            layer_norm_eps: 1e-5,
            projection_dim: hidden_size,
            pool: Pool::FirstOf(49407),
        }
    }

    /// The text encoder of CLIP ViT-B/32 and ViT-B/16: 63 M parameters (Radford et al. 2021, table 20).
    pub fn base() -> Self {
        Self::preset(512, 12, Unary::QuickGelu)
    }

    /// The text encoder of CLIP ViT-L/14, Stable Diffusion 1.x's: 123 M parameters (Radford et al. 2021, table 20).
    pub fn large() -> Self {
        Self::preset(768, 12, Unary::QuickGelu)
    }

    /// The text encoder of OpenCLIP ViT-H/14: 354 M parameters (`laion/CLIP-ViT-H-14-laion2B-s32B-b79K`). Stable
    /// Diffusion 2.x has 23 of its 24 layers, and no projection.
    pub fn huge() -> Self {
        Self::preset(1024, 24, Unary::Gelu)
    }

    /// The text encoder of OpenCLIP ViT-bigG/14: 695 M parameters (`laion/CLIP-ViT-bigG-14-laion2B-39B-b160k`).
    pub fn giant() -> Self {
        Self::preset(1280, 32, Unary::Gelu)
    }

    /// The preset of this name: `base`, `large`, `huge` or `giant`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "base" => Self::base(),
            "large" => Self::large(),
            "huge" => Self::huge(),
            "giant" => Self::giant(),
            _ => return None,
        })
    }

    /// Reads transformers' `CLIPTextConfig`, or the one within a whole `CLIPConfig`.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        let whole = match reader.str("model_type")? {
            Some("clip") => true,
            Some("clip_text_model") => false,
            None => json.get("text_config").is_some(),
            Some(other) => return Err(Error::Config(format!("a {other} holds no CLIP text encoder"))),
        };
        // Older files have the text's sizes twice, and transformers reads those of `text_config_dict`.
        let twice = json.get("text_config_dict").is_some_and(Json::is_object);
        let text = match (whole, twice) {
            (true, true) => reader.nested("text_config_dict"),
            (true, false) => reader.nested("text_config"),
            (false, _) => reader,
        };
        let projected = whole || reader.architecture() == Some("CLIPTextModelWithProjection");
        let projection_dim = if projected { reader.size("projection_dim")?.unwrap_or(512) } else { 0 };
        // transformers leaves out what equals its defaults, which are those of ViT-B/32.
        let default = Self::base();
        let size = |key: &str, default: usize| Ok::<_, Error>(text.size(key)?.unwrap_or(default));
        let end = size("eos_token_id", 49407)?;
        Ok(Self {
            vocab_size: size("vocab_size", default.vocab_size)?,
            max_position_embeddings: size("max_position_embeddings", default.max_position_embeddings)?,
            hidden_size: size("hidden_size", default.hidden_size)?,
            num_hidden_layers: size("num_hidden_layers", default.num_hidden_layers)?,
            num_attention_heads: size("num_attention_heads", default.num_attention_heads)?,
            intermediate_size: size("intermediate_size", default.intermediate_size)?,
            hidden_act: text.activation("hidden_act")?.unwrap_or(default.hidden_act),
            layer_norm_eps: text.float("layer_norm_eps")?.unwrap_or(default.layer_norm_eps),
            projection_dim,
            pool: match i32::try_from(end) {
                Ok(end) if end != OLD_END => Pool::FirstOf(end),
                _ => Pool::LargestId,
            },
        })
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights, names: &Names) {
        let shape = |name: String| match weights.shape(&name) {
            Some(&[rows, columns]) => Some([rows, columns]),
            _ => None,
        };
        if let Some([vocab, hidden]) = shape(names.model("embeddings.token_embedding.weight")) {
            (self.vocab_size, self.hidden_size) = (vocab, hidden);
        }
        if let Some([length, _]) = shape(names.model("embeddings.position_embedding.weight")) {
            self.max_position_embeddings = length;
        }
        let inner = |i: usize| shape(format!("{}.mlp.fc1.weight", names.layer(i)));
        if let Some([intermediate, _]) = inner(0) {
            self.intermediate_size = intermediate;
            self.num_hidden_layers = (0..MAX_LAYERS).take_while(|&i| inner(i).is_some()).count();
        }
        if let Some([width, _]) = shape(format!("{}.weight", names.projection())) {
            self.projection_dim = width;
        }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) {
            let reason = format!("{hidden} channels cannot be shared by {heads} attention heads");
            return Err(Error::Config(reason));
        }
        if self.num_hidden_layers > MAX_LAYERS {
            let layers = self.num_hidden_layers;
            return Err(Error::Config(format!("{layers} layers are more than Kiln takes")));
        }
        if self.vocab_size == 0 || self.max_position_embeddings == 0 {
            return Err(Error::Config("the model reads nothing".into()));
        }
        Ok(self)
    }
}
