//! What a checkpoint in one file does not say.
//!
//! The paper's code has 32 groups in every group norm and 8 heads in every attention, and since Stable Diffusion 2.x heads of 64
//! channels. The rest that no shape tells is that of the configurations which diffusers' `from_single_file` fetches:
//! `stable-diffusion-v1-5/stable-diffusion-v1-5`, `stabilityai/stable-diffusion-2-1` and those of their inpainting models.

use kiln_graph::Tensor;
use serde_json::{Value as Json, json};

use crate::unet::original::Layout;
use crate::weights::Weights;

/// How many steps the model was trained for, where a file says it.
pub(super) const STEPS: &str = "global_step";

/// The steps of Stable Diffusion 2.0's base model, by which diffusers knew that it predicts noise and not velocities.
const BASE_STEPS: f64 = 875_000.0;

/// Channels of a head, in OpenCLIP's and CLIP's text encoders and in Stable Diffusion 2.x's UNets.
const HEAD: usize = 64;

/// The UNet's configuration.
pub(super) fn unet(weights: &dyn Weights, second: bool) -> Json {
    let layout = Layout::of(weights);
    let first = |name: &str, axis: usize| Some(*weights.shape(name)?.get(axis)?);
    let channels = |i: usize| first(&format!("down_blocks.{i}.resnets.0.conv1.weight"), 0).unwrap_or(0);
    let channels: Vec<usize> = (0..layout.down.len()).map(channels).collect();
    let named = |stages: &[crate::unet::original::Blocks], side: &str| -> Vec<String> {
        let kind = |attention: bool| if attention { "CrossAttn" } else { "" };
        stages.iter().map(|stage| format!("{}{side}Block2D", kind(stage.attention))).collect()
    };
    let names = weights.names();
    let tokens =
        names.iter().find(|name| name.ends_with(".attn2.to_k.weight")).and_then(|name| first(name, 1));
    let linear = names.iter().any(|name| {
        name.ends_with(".proj_in.weight") && weights.shape(name).is_some_and(|shape| shape.len() == 2)
    });
    let heads: Vec<usize> =
        channels.iter().map(|&width| if linear { (width / HEAD).max(1) } else { 8 }).collect();
    // Those for inpainting were trained on smaller pictures.
    let side = if second && first("conv_in.weight", 1) == Some(4) { 96 } else { 64 };
    json!({
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": channels,
        "layers_per_block": layout.down.iter().map(|stage| stage.resnets).collect::<Vec<_>>(),
        "down_block_types": named(&layout.down, "Down"),
        "up_block_types": named(&layout.up, "Up"),
        "attention_head_dim": heads,
        "cross_attention_dim": tokens,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
        "sample_size": side,
    })
}

/// The autoencoder's, whose sizes its weights tell.
pub(super) fn vae(weights: &dyn Weights, second: bool) -> Json {
    let has = |name: &str| weights.shape(name).is_some();
    json!({
        "_class_name": "AutoencoderKL",
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
        "sample_size": if second { 768 } else { 512 },
        "use_quant_conv": has("quant_conv.weight"),
        "use_post_quant_conv": has("post_quant_conv.weight"),
        "mid_block_add_attention": has("decoder.mid_block.attentions.0.to_q.weight"),
    })
}

/// The text encoder's, whose other sizes its weights tell.
pub(super) fn text(weights: &dyn Weights, open_clip: bool) -> Json {
    let table = crate::clip_text::token_table(weights);
    let hidden = weights.shape(&table).and_then(|shape| shape.last().copied()).unwrap_or(0);
    json!({
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": hidden,
        "num_attention_heads": (hidden / HEAD).max(1),
        "hidden_act": if open_clip { "gelu" } else { "quick_gelu" },
    })
}

/// The scheduler's: whether a model predicts velocities cannot be told from its weights, and Stable Diffusion 2.x does
/// unless the file says that it was trained for as many steps as the base model.
pub(super) fn scheduler(second: bool, steps: Option<Tensor>) -> Json {
    let base = steps.is_some_and(|steps| steps.to_f64() == [BASE_STEPS]);
    json!({
        "_class_name": if second { "DDIMScheduler" } else { "PNDMScheduler" },
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "trained_betas": null,
        "prediction_type": if second && !base { "v_prediction" } else { "epsilon" },
    })
}
