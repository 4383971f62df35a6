//! The names of a Vision Transformer's weights.

use super::Config;
use crate::weights::Weights;

/// Whose names the weights have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// transformers' names in files: `vit.encoder.layer.0.attention.attention.query`. Holds the prefix, `vit.`,
    /// `deit.` or nothing.
    Published(String),
    /// transformers' names in memory since version 5: `vit.layers.0.attention.q_proj`.
    InMemory(String),
    /// timm's names: `blocks.0.attn.qkv`.
    Timm,
}

/// A part of an encoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Norm1,
    Qkv,
    Query,
    Key,
    Value,
    Output,
    Norm2,
    Fc1,
    Fc2,
}

/// The weights' names.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub layout: Layout,
    /// Whether the class token's classifier is named beside a distillation token's.
    pub(super) teacher: bool,
}

impl Names {
    /// Whose names `weights` has.
    pub fn of(weights: &dyn Weights, deit: bool) -> Self {
        let there = |name: &str| weights.shape(name).is_some();
        let prefix = if deit { "deit." } else { "vit." };
        let timm =
            ["patch_embed.proj.weight", "pos_embed", "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight"];
        let layout = if timm.iter().any(|name| there(name)) {
            Layout::Timm
        } else {
            let prefix = [prefix, "vit.", "deit.", ""]
                .into_iter()
                .find(|prefix| {
                    ["embeddings.cls_token", "embeddings.position_embeddings", "layernorm.weight"]
                        .iter()
                        .any(|name| there(&format!("{prefix}{name}")))
                })
                .unwrap_or(prefix)
                .to_string();
            let memory = ["attention.q_proj", "layernorm_before", "mlp.fc1"]
                .iter()
                .any(|part| there(&format!("{prefix}layers.0.{part}.weight")));
            if memory { Layout::InMemory(prefix) } else { Layout::Published(prefix) }
        };
        Self { layout, teacher: there("cls_classifier.weight") }
    }

    /// The name in transformers' layouts, or the one in timm's.
    fn either(&self, transformers: &str, timm: &str) -> String {
        match &self.layout {
            Layout::Published(prefix) | Layout::InMemory(prefix) => format!("{prefix}{transformers}"),
            Layout::Timm => timm.to_string(),
        }
    }

    pub fn patch(&self) -> String {
        self.either("embeddings.patch_embeddings.projection", "patch_embed.proj")
    }

    pub fn positions(&self) -> String {
        self.either("embeddings.position_embeddings", "pos_embed")
    }

    pub fn distillation_token(&self) -> String {
        self.either("embeddings.distillation_token", "dist_token")
    }

    /// Tokens before the image's, with their number, in order.
    pub fn prefix(&self, config: &Config) -> Vec<(String, usize)> {
        let mut names = Vec::new();
        if config.timm.class_token {
            names.push((self.either("embeddings.cls_token", "cls_token"), 1));
        }
        if config.distilled {
            names.push((self.distillation_token(), 1));
        }
        if config.timm.reg_tokens > 0 {
            names.push(("reg_token".to_string(), config.timm.reg_tokens));
        }
        names
    }

    /// Where layer `i` stands.
    pub fn layer(&self, i: usize) -> String {
        match &self.layout {
            Layout::Published(prefix) => format!("{prefix}encoder.layer.{i}"),
            Layout::InMemory(prefix) => format!("{prefix}layers.{i}"),
            Layout::Timm => format!("blocks.{i}"),
        }
    }

    /// Where a part stands within its layer.
    pub fn part(&self, part: Part) -> &'static str {
        let [published, memory, timm] = match part {
            Part::Norm1 => ["layernorm_before", "layernorm_before", "norm1"],
            Part::Qkv => ["attention.qkv", "attention.qkv", "attn.qkv"],
            Part::Query => ["attention.attention.query", "attention.q_proj", "attn.q"],
            Part::Key => ["attention.attention.key", "attention.k_proj", "attn.k"],
            Part::Value => ["attention.attention.value", "attention.v_proj", "attn.v"],
            Part::Output => ["attention.output.dense", "attention.o_proj", "attn.proj"],
            Part::Norm2 => ["layernorm_after", "layernorm_after", "norm2"],
            Part::Fc1 => ["intermediate.dense", "mlp.fc1", "mlp.fc1"],
            Part::Fc2 => ["output.dense", "mlp.fc2", "mlp.fc2"],
        };
        match self.layout {
            Layout::Published(_) => published,
            Layout::InMemory(_) => memory,
            Layout::Timm => timm,
        }
    }

    pub fn final_norm(&self) -> String {
        self.either("layernorm", "norm")
    }

    pub fn pooler(&self) -> String {
        self.either("pooler.dense", "pooler.dense")
    }

    pub fn head(&self) -> &'static str {
        match self.layout {
            Layout::Timm => "head",
            _ if self.teacher => "cls_classifier",
            _ => "classifier",
        }
    }

    pub fn distillation_head(&self) -> &'static str {
        if self.layout == Layout::Timm { "head_dist" } else { "distillation_classifier" }
    }
}
