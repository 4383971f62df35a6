//! Stable Diffusion's checkpoints in one file, as they were published first: the weights of a UNet, an autoencoder and a text
//! encoder by the names of the paper's own code, and no configuration. What they do not say is taken as diffusers'
//! `from_single_file` takes it: from the shapes of the weights, and from the configurations of Stable Diffusion 1.5 and 2.1.

mod configs;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::clip_text::original::{Meaning, meaning};
use crate::unet::original::Layout;
use crate::weights::{Checkpoint, Cut, Files, Place, Renaming, SharedWeights, View, Weights};
use crate::{Error, autoencoder_kl};

/// What trainers put before all names.
const WRAPPER: &str = "state_dict.";

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";

/// What a training leaves in a file: averages of weights, tables of the noise schedule and losses.
const LEFT_OVER: [&str; 12] = [
    "model_ema.",
    "first_stage_model.model_ema.",
    "first_stage_model.loss.",
    "cond_stage_model.logit_scale",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "lvlb_weights",
    "logvar",
    "scale_factor",
];

/// Signs of files that hold something else, and what that is.
const OTHERS: [(&str, &str); 9] = [
    ("conditioner.embedders.", "a checkpoint of Stable Diffusion XL, which Kiln does not know"),
    ("model.diffusion_model.joint_blocks.", "a checkpoint of Stable Diffusion 3, which Kiln does not know"),
    ("joint_blocks.", "a checkpoint of Stable Diffusion 3, which Kiln does not know"),
    ("model.diffusion_model.double_blocks.", "a checkpoint of FLUX, which Kiln does not know"),
    ("double_blocks.", "a checkpoint of FLUX, which Kiln does not know"),
    ("control_model.", "a ControlNet, which Kiln does not know"),
    ("lora_", "a LoRA, which is added to a model"),
    ("down_blocks.", "a UNet by diffusers' names, which belongs into a pipeline's folder"),
    ("emb_params", "a textual inversion, which is added to a model"),
];

/// A checkpoint whose parts are all there.
pub(crate) struct SingleFile {
    file: Arc<Checkpoint>,
    /// What stands before all names.
    wrapper: &'static str,
    /// Whether the text encoder is OpenCLIP's, as in Stable Diffusion 2.x.
    open_clip: bool,
}

impl SingleFile {
    /// Reads what a file holds.
    pub fn open(files: &Arc<dyn Files>, name: &str) -> Result<Self, Error> {
        let file = Arc::new(Checkpoint::file(files, name)?);
        let wrong = |reason: String| Error::Input(format!("{}: {reason}", file.display()));
        let names = file.names();
        let wrapper = if names.iter().any(|name| name.starts_with(WRAPPER)) { WRAPPER } else { "" };
        let holds = |prefix: &str| {
            names.iter().any(|name| name.strip_prefix(wrapper).is_some_and(|name| name.starts_with(prefix)))
        };
        if let Some((_, what)) = OTHERS.iter().find(|(sign, _)| holds(sign)) {
            return Err(wrong(format!("it is {what}")));
        }
        if !holds(UNET) {
            return Err(wrong(format!("it is no checkpoint of Stable Diffusion: it holds no {UNET}*")));
        }
        if !holds(VAE) {
            return Err(wrong(format!("it holds no autoencoder ({VAE}*): the pipeline's folder is needed")));
        }
        let open_clip = holds(OPEN_CLIP);
        if !open_clip && !holds(CLIP) {
            return Err(wrong(format!(
                "it holds no text encoder ({CLIP}* or {OPEN_CLIP}*): the pipeline's folder is needed"
            )));
        }
        let parts = [UNET, VAE, if open_clip { OPEN_CLIP } else { CLIP }];
        let strange = names.iter().filter_map(|name| name.strip_prefix(wrapper)).find(|name| {
            !parts.iter().any(|part| name.starts_with(part)) && !is_left_over(name) && *name != configs::STEPS
        });
        if let Some(name) = strange {
            log::warn!(
                "{}: {name:?} and what else is of no part of Stable Diffusion is not read",
                file.display()
            );
        }
        Ok(Self { file, wrapper, open_clip })
    }

    /// The UNet's configuration and weights.
    pub fn unet(&self) -> (Json, SharedWeights) {
        let has = |name: &str| self.shape(UNET, name).is_some();
        let renaming: Renaming =
            Layout::of_original(has).modules().into_iter().map(|[ours, theirs]| (theirs, ours)).collect();
        let view = self.view(UNET, |name| vec![renaming.apply(name).unwrap_or_else(|| name.to_string())]);
        (configs::unet(&view, self.is_second()), Arc::new(view))
    }

    /// The autoencoder's.
    pub fn vae(&self) -> (Json, SharedWeights) {
        let modules = autoencoder_kl::original::modules(|name| self.shape(VAE, name).is_some());
        let renaming: Renaming = modules.into_iter().map(|[ours, theirs]| (theirs, ours)).collect();
        let view = self.view(VAE, |name| vec![renaming.apply(name).unwrap_or_else(|| name.to_string())]);
        (configs::vae(&view, self.is_second()), Arc::new(view))
    }

    /// The text encoder's.
    pub fn text(&self) -> (Json, SharedWeights) {
        let view = match self.open_clip {
            false => self.view(CLIP, |name| vec![name.to_string()]),
            true => self.view(OPEN_CLIP, |name| match meaning(name) {
                Meaning::Weight(name) => vec![name],
                Meaning::Three(names) => names.to_vec(),
                Meaning::Nothing => Vec::new(),
                Meaning::Unknown => vec![name.to_string()],
            }),
        };
        (configs::text(&view, self.open_clip), Arc::new(view))
    }

    /// The scheduler's configuration.
    pub fn scheduler(&self) -> Json {
        let steps = self.file.read(&format!("{}{}", self.wrapper, configs::STEPS)).ok();
        let inpainting =
            self.shape(UNET, "input_blocks.0.0.weight").and_then(|shape| shape.get(1)) == Some(&9);
        configs::scheduler(self.is_second() && !inpainting, steps)
    }

    /// The token that fills up prompts, where it is not the one that ends them.
    pub fn pad(&self) -> Option<&'static str> {
        self.open_clip.then_some("!")
    }

    /// The file, as errors show it.
    pub fn display(&self) -> String {
        self.file.display()
    }

    /// Whether it is one of Stable Diffusion 2.x.
    fn is_second(&self) -> bool {
        self.open_clip
    }

    fn shape(&self, part: &str, name: &str) -> Option<&[usize]> {
        self.file.shape(&format!("{}{part}{name}", self.wrapper))
    }

    /// The tensors of a part by the names that `names` gives for the file's: none, one, or one for each of as many parts of
    /// the tensor's rows.
    fn view(&self, part: &str, names: impl Fn(&str) -> Vec<String>) -> View {
        let prefix = format!("{}{part}", self.wrapper);
        let mut places = BTreeMap::new();
        for tensor in self.file.names() {
            let (Some(name), Some(shape)) = (tensor.strip_prefix(&prefix), self.file.shape(&tensor)) else {
                continue;
            };
            if is_left_over(&format!("{part}{name}")) {
                continue;
            }
            let names = names(name);
            let count = names.len();
            for (i, name) in names.into_iter().enumerate() {
                let mut shape = shape.to_vec();
                if let ([_, _, 1, 1] | [_, _, 1], true) =
                    (&shape[..], autoencoder_kl::original::is_product(&name))
                {
                    shape.truncate(2);
                }
                let cut = match shape.first_mut() {
                    Some(rows) if count > 1 && rows.is_multiple_of(count) => {
                        *rows /= count;
                        Cut::Rows(i * *rows..(i + 1) * *rows)
                    }
                    _ => Cut::Whole,
                };
                places.insert(name, Place { tensor: tensor.clone(), cut, shape });
            }
        }
        View::new(self.file.clone(), places)
    }
}

fn is_left_over(name: &str) -> bool {
    LEFT_OVER.iter().any(|start| name.starts_with(start))
}
