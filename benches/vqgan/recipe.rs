//! Weights of both stages, made up: a manifest of names and shapes.

use std::sync::Arc;

use anyhow::Result;
use kiln::models::weights::{Recipe, SharedWeights};
use kiln::models::{gpt, vq_model};
use serde_json::{Value as Json, json};

/// A list of tensors. Sums of random terms keep about the size of their terms.
#[derive(Default)]
struct Manifest(Vec<Json>);

impl Manifest {
    fn tensor(&mut self, name: &str, shape: &[usize], scale: f64, offset: f64) {
        self.0.push(json!({ "name": name, "shape": shape, "scale": scale, "offset": offset }));
    }

    /// A convolution or a linear layer, whose weight is `[outputs, inputs, ..]`.
    fn layer(&mut self, name: &str, shape: &[usize]) {
        let terms: usize = shape[1..].iter().product();
        self.tensor(&format!("{name}.weight"), shape, (3.0 / terms as f64).sqrt(), 0.0);
        self.tensor(&format!("{name}.bias"), &shape[..1], 0.1, 0.0);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.tensor(&format!("{name}.weight"), &[width], 0.1, 1.0);
        self.tensor(&format!("{name}.bias"), &[width], 0.1, 0.0);
    }

    fn resnet(&mut self, name: &str, from: usize, to: usize) {
        self.norm(&format!("{name}.norm1"), from);
        self.layer(&format!("{name}.conv1"), &[to, from, 3, 3]);
        self.norm(&format!("{name}.norm2"), to);
        self.layer(&format!("{name}.conv2"), &[to, to, 3, 3]);
        if from != to {
            self.layer(&format!("{name}.conv_shortcut"), &[to, from, 1, 1]);
        }
    }

    fn attention(&mut self, name: &str, width: usize) {
        self.norm(&format!("{name}.group_norm"), width);
        for layer in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.layer(&format!("{name}.{layer}"), &[width, width]);
        }
    }

    /// Blocks of a half, outermost or innermost first, and what is in the middle.
    fn half(
        &mut self,
        name: &str,
        side: &str,
        widths: &[usize],
        first: usize,
        count: usize,
        attends: &[bool],
    ) {
        let mut from = first;
        for (i, (&width, &attends)) in widths.iter().zip(attends).enumerate() {
            let block = format!("{name}.{side}_blocks.{i}");
            for layer in 0..count {
                self.resnet(&format!("{block}.resnets.{layer}"), from, width);
                from = width;
                if attends {
                    self.attention(&format!("{block}.attentions.{layer}"), width);
                }
            }
            if i + 1 < widths.len() {
                self.layer(&format!("{block}.{side}samplers.0.conv"), &[width, width, 3, 3]);
            }
        }
    }

    fn ends(&mut self, name: &str, [inputs, stem, middle, last, outputs]: [usize; 5]) {
        self.layer(&format!("{name}.conv_in"), &[stem, inputs, 3, 3]);
        for i in 0..2 {
            self.resnet(&format!("{name}.mid_block.resnets.{i}"), middle, middle);
        }
        self.attention(&format!("{name}.mid_block.attentions.0"), middle);
        self.norm(&format!("{name}.conv_norm_out"), last);
        self.layer(&format!("{name}.conv_out"), &[outputs, last, 3, 3]);
    }

    fn weights(self, case: &str) -> Result<SharedWeights> {
        let file = "model.safetensors";
        let manifest = json!({ "case": case, "seed": 0, "weights": { file: self.0 } });
        Ok(Arc::new(Recipe::from_manifest(&manifest, file, case)?))
    }
}

/// Those of an autoencoder with a codebook, by diffusers' names.
pub fn autoencoder(config: &vq_model::Config) -> Result<SharedWeights> {
    let mut manifest = Manifest::default();
    let widths = &config.block_out_channels;
    let inward: Vec<usize> = widths.iter().rev().copied().collect();
    let (outer, inner) = (widths[0], inward[0]);
    let (layers, latents, code) = (config.layers_per_block, config.latent_channels, config.vq_embed_dim);
    let down = &config.encoder_attention;
    manifest.half("encoder", "down", widths, config.stem_channels, layers, down);
    manifest.ends("encoder", [config.in_channels, config.stem_channels, inner, inner, latents]);
    manifest.half("decoder", "up", &inward, inner, layers + 1, &config.decoder_attention);
    manifest.ends("decoder", [latents, inner, inner, outer, config.out_channels]);
    manifest.layer("quant_conv", &[code, latents, 1, 1]);
    manifest.layer("post_quant_conv", &[latents, code, 1, 1]);
    manifest.tensor("quantize.embedding.weight", &[config.num_vq_embeddings, code], 1.0, 0.0);
    manifest.weights("autoencoder")
}

/// Those of a transformer, by minGPT's names.
pub fn transformer(config: &gpt::Config) -> Result<SharedWeights> {
    let mut manifest = Manifest::default();
    let (width, vocab) = (config.n_embd, config.vocab_size);
    manifest.tensor("tok_emb.weight", &[vocab, width], 1.0, 0.0);
    manifest.tensor("pos_emb", &[1, config.n_positions, width], 1.0, 0.0);
    for i in 0..config.n_layer {
        let block = format!("blocks.{i}");
        manifest.norm(&format!("{block}.ln1"), width);
        manifest.norm(&format!("{block}.ln2"), width);
        for layer in ["query", "key", "value", "proj"] {
            manifest.layer(&format!("{block}.attn.{layer}"), &[width, width]);
        }
        manifest.layer(&format!("{block}.mlp.0"), &[config.n_inner, width]);
        manifest.layer(&format!("{block}.mlp.2"), &[width, config.n_inner]);
    }
    manifest.norm("ln_f", width);
    manifest.tensor("head.weight", &[vocab, width], (3.0 / width as f64).sqrt(), 0.0);
    manifest.weights("transformer")
}
