//! LoRA: "LoRA: Low-Rank Adaptation of Large Language Models" (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>). What a
//! model learned later, as the product of two thin matrices for each weight that changed, which is added to the weight:
//! `W + scale * (alpha / rank) * up * down`.
//!
//! Files are `.safetensors` for the UNet and the text encoder of Stable Diffusion 1.x and 2.x, named as one of these does:
//!
//! | whose names | such as |
//! |---|---|
//! | kohya's `sd-scripts` | `lora_unet_down_blocks_0_..._to_q.lora_down.weight`, `.lora_up.weight`, `.alpha` |
//! | the same with the original numbers | `lora_unet_input_blocks_1_1_..._to_q.lora_down.weight` |
//! | diffusers' processors | `unet.down_blocks.0....attn1.processor.to_q_lora.down.weight` |
//! | diffusers' layers | `unet....to_q.lora.down.weight`, `text_encoder....lora_linear_layer.down.weight` |
//! | PEFT | `unet....to_q.lora_A.weight`, `.lora_B.weight`; alphas in the file's metadata |
//!
//! Linear layers and convolutions are merged, also those with a third tensor, `lora_mid`, between the two (LoCon with
//! Tucker decomposition). What only looks like a LoRA, such as DoRA, LoHa and LoKr, is refused by name.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kiln_engine::Precision;
//! use kiln_models::lora::Lora;
//! use kiln_models::stable_diffusion::{Additions, StableDiffusion};
//! use kiln_models::weights::{Files, Folder};
//! use kiln_models::Device;
//!
//! let loras: Arc<dyn Files> = Arc::new(Folder::new("loras"));
//! let additions = Additions { loras: vec![Lora::open(&loras, "ink.safetensors", 0.7)?], ..Additions::default() };
//! let files: Arc<dyn Files> = Arc::new(Folder::new("stable-diffusion-v1-5"));
//! let pipeline = StableDiffusion::open(&files, Device::Cpu, Precision::F32, &additions)?;
//! # Ok::<(), kiln_models::Error>(())
//! ```

mod adapter;
mod error;
mod key;
mod merged;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use error::LoraError;
pub use merged::Merged;

use adapter::Adapter;
use key::{Key, Part, Role};

use crate::weights::{Checkpoint, Files, Weights};

/// A LoRA and how much of it is wanted.
#[derive(Clone, Debug)]
pub struct Lora {
    tensors: Arc<Checkpoint>,
    scale: f32,
    modules: BTreeMap<(Part, String), Module>,
}

/// The tensors of a weight that changed.
#[derive(Clone, Debug)]
struct Module {
    down: String,
    mid: Option<String>,
    up: String,
    /// What the product is multiplied by before it is divided by the rank; the rank itself where it is not given.
    alpha: Option<f64>,
    /// Whether it is divided by the rank's square root (<https://arxiv.org/abs/2312.03732>).
    by_root: bool,
}

/// The names of a module's tensors, as far as they have been seen.
#[derive(Default)]
struct Found {
    down: Option<String>,
    mid: Option<String>,
    up: Option<String>,
    alpha: Option<f64>,
}

impl Lora {
    /// Reads which weights a file changes. `scale` is how much of it is wanted: 1 for all of it, and anything finite.
    pub fn open(files: &Arc<dyn Files>, file: &str, scale: f32) -> Result<Self, LoraError> {
        let tensors = Checkpoint::file(files, file)?;
        let file = tensors.display();
        if !scale.is_finite() {
            return Err(LoraError::Scale { file, scale });
        }
        let mut found: BTreeMap<(Part, String), Found> = BTreeMap::new();
        for name in tensors.names() {
            if key::is_harmless(&name) {
                continue;
            }
            let Key { part, module, role } =
                key::read(&name).map_err(|kind| LoraError::of(&file, &name, kind))?;
            let module = found.entry((part, module)).or_default();
            match role {
                Role::Down => module.down = Some(name),
                Role::Mid => module.mid = Some(name),
                Role::Up => module.up = Some(name),
                Role::Alpha => module.alpha = Some(alpha(&tensors, &name)?),
            }
        }
        if found.is_empty() {
            return Err(LoraError::Empty { file });
        }
        let adapter = Adapter::of(&tensors)?;
        let mut modules = BTreeMap::new();
        for ((part, module), Found { down, mid, up, alpha }) in found {
            let (Some(down), Some(up)) = (down, up) else {
                return Err(LoraError::Incomplete { file, module });
            };
            let (told, by_root) = adapter.scaling(part, &module);
            let complete = Module { down, mid, up, alpha: alpha.or(told), by_root };
            modules.insert((part, module), complete);
        }
        Ok(Self { tensors: Arc::new(tensors), scale, modules })
    }

    /// Where it comes from, as errors show it.
    pub fn display(&self) -> String {
        self.tensors.display()
    }

    /// How much of it is wanted.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

/// A module's alpha: one finite number.
fn alpha(tensors: &Checkpoint, name: &str) -> Result<f64, LoraError> {
    let tensor = tensors.read(name)?;
    match tensor.to_f64()[..] {
        [alpha] if alpha.is_finite() => Ok(alpha),
        _ => Err(LoraError::Alpha { file: tensors.display(), key: name.into() }),
    }
}
