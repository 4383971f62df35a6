//! Vision Transformer: "An Image is Worth 16x16 Words" (Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>),
//! and DeiT with its distillation token (Touvron et al. 2020, <https://arxiv.org/abs/2012.12877>).
//!
//! Reads the layouts of transformers (`ViTForImageClassification`, `ViTModel`, `DeiTForImageClassification`,
//! `DeiTForImageClassificationWithTeacher`; the names in files and those in memory) and of timm (`vit_*`, `deit_*`).
//! Input: `pixel_values` `[batch, height, width, channels]`. Outputs: `logits` `[batch, labels]`, for a teacher also
//! `cls_logits` and `distillation_logits`; without a classifier `last_hidden_state` `[batch, tokens, hidden_size]` and,
//! with a pooler, `pooler_output`.

use kiln_graph::ops::{AttentionOptions, Interpolate, InterpolateMode, Unary};
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor, Value};
use serde_json::Value as Json;

use crate::config::Config as Reader;
use crate::weights::{Weights, check};
use crate::{Error, Taps};

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
        if architecture.contains("quickgelu") {
            config.hidden_act = Unary::QuickGelu;
        }
        config.image_size = given.pair("img_size")?.unwrap_or(config.image_size);
        config.patch_size = given.pair("patch_size")?.unwrap_or(config.patch_size);
        config.num_channels = given.size("in_chans")?.unwrap_or(config.num_channels);
        config.hidden_size =
            given.size("embed_dim")?.or(json.size("num_features")?).unwrap_or(config.hidden_size);
        config.num_hidden_layers = given.size("depth")?.unwrap_or(config.num_hidden_layers);
        config.num_attention_heads = given.size("num_heads")?.unwrap_or(config.num_attention_heads);
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
    fn fit(&mut self, weights: &dyn Weights, names: &Names) {
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
    fn embedded_prefix(&self) -> usize {
        if self.timm.no_embed_class { 0 } else { self.prefix_tokens() }
    }

    fn checked(self) -> Result<Self, Error> {
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

/// The root of a square number.
fn square(n: usize) -> Option<usize> {
    let root = n.isqrt();
    (root > 0 && root * root == n).then_some(root)
}

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

    /// A pre-norm encoder layer.
    fn layer(&self, b: &mut Builder, i: usize, x: Value, taps: &Taps) -> Result<Value, GraphError> {
        let name = |part: Part| self.names.part(part);
        let normed = self.layer_norm(b, name(Part::Norm1), x)?;
        let attention = self.attention(b, i, normed, taps)?;
        taps.tap(b, &format!("attention{i}"), attention)?;
        let attention = self.layer_scale(b, "ls1", attention)?;
        let x = b.add(attention, x)?;
        let normed = self.layer_norm(b, name(Part::Norm2), x)?;
        let inner = linear(b, name(Part::Fc1), normed, self.config.intermediate_size, true)?;
        let inner = b.unary(self.config.hidden_act, inner)?;
        let outer = linear(b, name(Part::Fc2), inner, self.config.hidden_size, true)?;
        let outer = self.layer_scale(b, "ls2", outer)?;
        b.add(outer, x)
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
        let heads = self.config.num_attention_heads;
        let size = self.config.hidden_size / heads;
        let (batch, length) = match *b.shape(q) {
            [batch, length, _] => (batch, length),
            _ => return Ok(()),
        };
        let q = b.reshape(q, [batch, length, heads, size])?;
        let q = b.permute(q, [0, 2, 1, 3])?;
        let k = b.reshape(k, [batch, length, heads, size])?;
        let k = b.permute(k, [0, 2, 3, 1])?;
        let scores = b.matmul(q, k)?;
        let scores = b.unary(Unary::Affine { scale: 1.0 / (size as f32).sqrt(), offset: 0.0 }, scores)?;
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
        let count = end.saturating_sub(prefix);
        let ones =
            b.constant(Tensor::from_f64([1, count], DType::F32, &vec![1.0; count]).map_err(|error| {
                GraphError::Value { what: "constant", name: "ones".into(), reason: error.to_string() }
            })?);
        let sum = b.matmul(ones, patches)?;
        let sum = b.squeeze(sum, 1)?;
        b.unary(Unary::Affine { scale: 1.0 / count as f32, offset: 0.0 }, sum)
    }
}

/// The linear layer whose weights are `module`'s.
fn linear(b: &mut Builder, module: &str, x: Value, outputs: usize, bias: bool) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let weight = b.weight("weight", [outputs, b.desc(x).last()])?;
        let bias = if bias { Some(b.weight("bias", [outputs])?) } else { None };
        b.linear(x, weight, bias)
    })
}

/// The layer norm over the last axis whose weights are `module`'s.
fn layer_norm(b: &mut Builder, module: &str, x: Value, eps: f32) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let channels = b.desc(x).last();
        let (weight, bias) = (b.weight("weight", [channels])?, b.weight("bias", [channels])?);
        b.layer_norm(x, Some(weight), Some(bias), eps)
    })
}

/// A part of an encoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
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
struct Names {
    layout: Layout,
    /// Whether the class token's classifier is named beside a distillation token's.
    teacher: bool,
}

impl Names {
    /// Whose names `weights` has.
    fn of(weights: &dyn Weights, deit: bool) -> Self {
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

    fn patch(&self) -> String {
        self.either("embeddings.patch_embeddings.projection", "patch_embed.proj")
    }

    fn positions(&self) -> String {
        self.either("embeddings.position_embeddings", "pos_embed")
    }

    fn distillation_token(&self) -> String {
        self.either("embeddings.distillation_token", "dist_token")
    }

    /// Tokens before the image's, with their number, in order.
    fn prefix(&self, config: &Config) -> Vec<(String, usize)> {
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
    fn layer(&self, i: usize) -> String {
        match &self.layout {
            Layout::Published(prefix) => format!("{prefix}encoder.layer.{i}"),
            Layout::InMemory(prefix) => format!("{prefix}layers.{i}"),
            Layout::Timm => format!("blocks.{i}"),
        }
    }

    /// Where a part stands within its layer.
    fn part(&self, part: Part) -> &'static str {
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

    fn final_norm(&self) -> String {
        self.either("layernorm", "norm")
    }

    fn pooler(&self) -> String {
        self.either("pooler.dense", "pooler.dense")
    }

    fn head(&self) -> &'static str {
        match self.layout {
            Layout::Timm => "head",
            _ if self.teacher => "cls_classifier",
            _ => "classifier",
        }
    }

    fn distillation_head(&self) -> &'static str {
        if self.layout == Layout::Timm { "head_dist" } else { "distillation_classifier" }
    }
}
