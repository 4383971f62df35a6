//! Sizes and options of Vision Transformers.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::names::{Layout, Names, Part};
use crate::Error;
use crate::config::Config as Reader;
use crate::weights::Weights;

/// What the encoder's tokens become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Token,
    /// The mean of the image's tokens (timm's `global_pool="avg"`).
    Average,
}

/// Sizes and options. Start from a preset or from [`Config::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Height and width that the position embeddings are for.
    pub image_size: [usize; 2],
    /// Height and width of a patch.
    pub patch_size: [usize; 2],
    /// Image channels.
    pub num_channels: usize,
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
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Classes; 0 for no classifier.
    pub num_labels: usize,
    /// What the classifier sees.
    pub pool: Pool,
    /// Whether there is a distillation token (DeiT).
    pub distilled: bool,
    /// Whether the distillation token has a classifier of its own, whose logits are averaged with the class token's.
    pub teacher: bool,
    /// Width of the pooler; 0 for none. Models with a classifier have none.
    pub pooler_output_size: usize,
    /// The pooler's activation.
    pub pooler_act: Unary,
    /// What only timm's models have.
    pub timm: Timm,
}

/// Options that only timm's models have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timm {
    /// Whether there is a class token.
    pub class_token: bool,
    /// Register tokens (Darcet et al. 2023, <https://arxiv.org/abs/2309.16588>).
    pub reg_tokens: usize,
    /// Whether position embeddings are for patches alone.
    pub no_embed_class: bool,
    /// Whether patches are projected with a bias.
    pub patch_bias: bool,
    /// Whether the embeddings are normalised before the encoder, as in CLIP.
    pub norm_pre: bool,
    /// Whether each branch is normalised after it instead of before (timm's `rpn`; Liu et al. 2021,
    /// <https://arxiv.org/abs/2111.09883>).
    pub res_post_norm: bool,
    /// Whether each branch is scaled by a learned vector (CaiT, DeiT III).
    pub layer_scale: bool,
    /// Whether queries and keys are normalised.
    pub qk_norm: bool,
    /// Whether tokens are normalised after the encoder.
    pub norm: bool,
    /// Whether they are normalised after pooling.
    pub fc_norm: bool,
}

impl Default for Timm {
    fn default() -> Self {
        Self {
            class_token: true,
            reg_tokens: 0,
            no_embed_class: false,
            patch_bias: true,
            norm_pre: false,
            res_post_norm: false,
            layer_scale: false,
            qk_norm: false,
            norm: true,
            fc_norm: false,
        }
    }
}

impl Config {
    fn preset(hidden_size: usize, layers: usize, heads: usize, patch: usize) -> Self {
        Self {
            image_size: [224; 2],
            patch_size: [patch; 2],
            num_channels: 3,
            hidden_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            intermediate_size: 4 * hidden_size,
            hidden_act: Unary::Gelu,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
            num_labels: 1000,
            pool: Pool::Token,
            distilled: false,
            teacher: false,
            pooler_output_size: 0,
            pooler_act: Unary::Tanh,
            timm: Timm::default(),
        }
    }

    /// ViT-Ti/16: 5.7 M parameters (Touvron et al. 2020, table 1).
    pub fn tiny() -> Self {
        Self::preset(192, 12, 3, 16)
    }

    /// ViT-S/16: 22 M parameters (Touvron et al. 2020, table 1).
    pub fn small() -> Self {
        Self::preset(384, 12, 6, 16)
    }

    /// ViT-B/16: 86 M parameters (Dosovitskiy et al. 2020, table 1).
    pub fn base() -> Self {
        Self::preset(768, 12, 12, 16)
    }

    /// ViT-L/16: 307 M parameters (Dosovitskiy et al. 2020, table 1).
    pub fn large() -> Self {
        Self::preset(1024, 24, 16, 16)
    }

    /// ViT-H/14: 632 M parameters (Dosovitskiy et al. 2020, table 1).
    pub fn huge() -> Self {
        Self::preset(1280, 32, 16, 14)
    }

    /// The preset of this name: `tiny`, `small`, `base`, `large` or `huge`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "tiny" => Self::tiny(),
            "small" => Self::small(),
            "base" => Self::base(),
            "large" => Self::large(),
            "huge" => Self::huge(),
            _ => return None,
        })
    }

    /// Reads transformers' or timm's `config.json`.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let reader = Reader(json);
        match reader.str("architecture")? {
            Some(architecture) => Self::from_timm(reader, architecture),
            None => Self::from_transformers(reader),
        }
    }

    fn from_transformers(json: Reader) -> Result<Self, Error> {
        // transformers leaves out what equals its defaults, which are those of the base model.
        let mut config = Self::base();
        let default = config.hidden_size;
        config.image_size = json.pair("image_size")?.unwrap_or(config.image_size);
        config.patch_size = json.pair("patch_size")?.unwrap_or(config.patch_size);
        config.num_channels = json.size("num_channels")?.unwrap_or(config.num_channels);
        config.hidden_size = json.size("hidden_size")?.unwrap_or(default);
        config.num_hidden_layers = json.size("num_hidden_layers")?.unwrap_or(config.num_hidden_layers);
        config.num_attention_heads = json.size("num_attention_heads")?.unwrap_or(config.num_attention_heads);
        config.intermediate_size = json.size("intermediate_size")?.unwrap_or(config.intermediate_size);
        config.hidden_act = json.activation("hidden_act")?.unwrap_or(config.hidden_act);
        config.layer_norm_eps = json.float("layer_norm_eps")?.unwrap_or(config.layer_norm_eps);
        config.qkv_bias = json.flag("qkv_bias")?.unwrap_or(true);
        config.pooler_act = json.activation("pooler_act")?.unwrap_or(Unary::Tanh);
        let labels = json.0.get("id2label").and_then(Json::as_object).map(serde_json::Map::len);
        config.num_labels = labels.or(json.size("num_labels")?).unwrap_or(2);
        config.distilled = json.str("model_type")? == Some("deit");
        match json.architecture() {
            Some("ViTModel" | "DeiTModel") => {
                config.num_labels = 0;
                config.pooler_output_size = json.size("pooler_output_size")?.unwrap_or(config.hidden_size);
            }
            Some("DeiTForImageClassificationWithTeacher") => config.teacher = true,
            Some("ViTForImageClassification" | "DeiTForImageClassification") | None => {}
            Some(other) => return Err(Error::Config(format!("{other} is no ViT that Kiln knows"))),
        }
        Ok(config)
    }

    fn from_timm(json: Reader, architecture: &str) -> Result<Self, Error> {
        let size = architecture.split('_').nth(1).unwrap_or_default();
        let mut config = Self::named(size).unwrap_or_else(Self::base);
        let given = json.nested("model_args");
        let pretrained = json.nested("pretrained_cfg");
        config.layer_norm_eps = if architecture.contains("clip") { 1e-5 } else { 1e-6 };
        config.hidden_act = timm_activation(architecture);
        config.timm.res_post_norm = architecture.contains("_rpn_");
        if architecture.contains("_rope_") {
            return Err(Error::Config(format!(
                "{architecture} has rotary positions, which Kiln's ViT has not"
            )));
        }
        config.image_size = given.pair("img_size")?.unwrap_or(config.image_size);
        config.patch_size = given.pair("patch_size")?.unwrap_or(config.patch_size);
        config.num_channels = given.size("in_chans")?.unwrap_or(config.num_channels);
        config.hidden_size =
            given.size("embed_dim")?.or(json.size("num_features")?).unwrap_or(config.hidden_size);
        config.num_hidden_layers = given.size("depth")?.unwrap_or(config.num_hidden_layers);
        config.num_attention_heads =
            given.size("num_heads")?.or(timm_heads(architecture)).ok_or_else(|| {
                Error::Config(format!(
                    "model_args has no num_heads, and {architecture} is no ViT that Kiln knows"
                ))
            })?;
        let ratio = given.float("mlp_ratio")?.unwrap_or(4.0);
        config.intermediate_size = (config.hidden_size as f32 * ratio) as usize;
        config.qkv_bias = given.flag("qkv_bias")?.unwrap_or(true);
        let labels = json.size("num_classes")?.or(given.size("num_classes")?);
        config.num_labels = labels.or(pretrained.size("num_classes")?).unwrap_or(config.num_labels);
        config.distilled = architecture.contains("distilled");
        config.teacher = config.distilled;
        config.pool = match json.str("global_pool")?.or(given.str("global_pool")?) {
            None | Some("token") => Pool::Token,
            Some("avg") => Pool::Average,
            Some(other) => return Err(Error::Config(format!("global_pool {other:?} is not supported"))),
        };
        Ok(config)
    }

    /// Takes the sizes that the weights' shapes tell, which are right where both disagree.
    pub(super) fn fit(&mut self, weights: &dyn Weights, names: &Names) {
        let shape = |name: &str| weights.shape(name);
        if let Some(&[hidden, channels, h, w]) = shape(&format!("{}.weight", names.patch())) {
            (self.hidden_size, self.num_channels, self.patch_size) = (hidden, channels, [h, w]);
        }
        if let Some(&[intermediate, _]) =
            shape(&format!("{}.{}.weight", names.layer(0), names.part(Part::Fc1)))
        {
            self.intermediate_size = intermediate;
        }
        if let (Some(&[labels, _]), true) = (shape(&format!("{}.weight", names.head())), self.num_labels > 0)
        {
            self.num_labels = labels;
        }
        let there = |name: &str| shape(name).is_some();
        if names.layout == Layout::Timm {
            // timm's models differ in parts that are there or not.
            self.timm = Timm {
                class_token: there("cls_token") || !there("reg_token") && self.pool == Pool::Token,
                reg_tokens: shape("reg_token").and_then(|shape| shape.get(1).copied()).unwrap_or(0),
                no_embed_class: false,
                patch_bias: there("patch_embed.proj.bias") || !there("norm_pre.weight"),
                norm_pre: there("norm_pre.weight"),
                res_post_norm: self.timm.res_post_norm,
                layer_scale: there("blocks.0.ls1.gamma"),
                qk_norm: there("blocks.0.attn.q_norm.weight"),
                norm: there("norm.weight") || !there("fc_norm.weight"),
                fc_norm: there("fc_norm.weight"),
            };
            self.qkv_bias = there("blocks.0.attn.qkv.bias");
            self.distilled = there("dist_token");
            self.teacher = there("head_dist.weight");
            self.num_hidden_layers = (0..self.num_hidden_layers.max(1024))
                .take_while(|&i| there(&format!("{}.norm1.weight", names.layer(i))))
                .count();
            if !there("head.weight") {
                self.num_labels = 0;
            }
        } else {
            self.distilled = there(&names.distillation_token());
            self.teacher = self.num_labels > 0 && there("distillation_classifier.weight");
            if self.num_labels == 0 && !there(&format!("{}.weight", names.pooler())) {
                self.pooler_output_size = 0;
            }
        }
        if let Some(&[_, positions, _]) = shape(&names.positions()) {
            let patches = |config: &Self| config.grid(config.image_size).iter().product::<usize>();
            if names.layout == Layout::Timm && self.prefix_tokens() > 0 {
                // Without the prefix where that makes the patches a square, or what the image size says.
                let rest = positions.saturating_sub(self.prefix_tokens());
                self.timm.no_embed_class =
                    positions == patches(self) || rest != patches(self) && square(positions).is_some();
            }
            let rest = positions.saturating_sub(self.embedded_prefix());
            if let (Some(side), true) = (square(rest), rest != patches(self)) {
                self.image_size = [side * self.patch_size[0], side * self.patch_size[1]];
            }
        }
    }

    /// Rows and columns of patches of an image. What is left at the right and the bottom is not seen.
    pub fn grid(&self, image: [usize; 2]) -> [usize; 2] {
        [image[0] / self.patch_size[0].max(1), image[1] / self.patch_size[1].max(1)]
    }

    /// Tokens before the image's: class, distillation, registers.
    pub fn prefix_tokens(&self) -> usize {
        usize::from(self.timm.class_token) + usize::from(self.distilled) + self.timm.reg_tokens
    }

    /// Those of them that have position embeddings.
    pub(super) fn embedded_prefix(&self) -> usize {
        if self.timm.no_embed_class { 0 } else { self.prefix_tokens() }
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || !hidden.is_multiple_of(heads) || hidden == 0 {
            return wrong(format!("{hidden} channels cannot be shared by {heads} attention heads"));
        }
        if self.grid(self.image_size).contains(&0) || self.patch_size.contains(&0) {
            let (image, patch) = (self.image_size, self.patch_size);
            return wrong(format!("an image of {image:?} holds no patch of {patch:?}"));
        }
        if self.num_hidden_layers > 1024 {
            return wrong(format!("{} layers are more than Kiln takes", self.num_hidden_layers));
        }
        if !self.timm.class_token && self.pool == Pool::Token {
            return wrong("there is no class token to classify by".into());
        }
        Ok(self)
    }
}

/// The activation of timm's model of this name. SigLIP 2 took the approximation of GELU by tanh; its names differ from
/// SigLIP's by their sizes alone.
fn timm_activation(architecture: &str) -> Unary {
    let siglip2 = ["patch32_siglip", "large_patch16_siglip_gap_512", "so400m_patch16_siglip", "giantopt_"];
    if architecture.contains("quickgelu") {
        Unary::QuickGelu
    } else if siglip2.iter().any(|part| architecture.contains(part)) {
        Unary::GeluTanh
    } else {
        Unary::Gelu
    }
}

/// Heads of timm's model of this name.
fn timm_heads(architecture: &str) -> Option<usize> {
    let is = |parts: &[&str]| parts.iter().any(|part| architecture.contains(part));
    Some(match architecture.split('_').nth(1)? {
        "tiny" => 3,
        "wee" | "xsmall" => 4,
        "little" => 5,
        "small" => 6,
        "medium" | "mediumd" => 8,
        "betwixt" => 10,
        "base" if is(&["_plus_"]) => 14,
        "base" if is(&["vit_base_patch16_gap"]) => 16,
        "base" => 12,
        "so150m2" => 13,
        "so150m" => 14,
        "giant" if is(&["dinov2", "tipsv2"]) => 24,
        "large" | "huge" | "giant" | "giantopt" | "gigantic" | "so400m" | "intern300m" => 16,
        _ => return None,
    })
}

/// The root of a square number.
fn square(n: usize) -> Option<usize> {
    let root = n.isqrt();
    (root > 0 && root * root == n).then_some(root)
}
