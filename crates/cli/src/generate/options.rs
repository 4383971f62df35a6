//! What the commands that make pictures have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use kiln::models::LatentCodec;
use kiln::models::lora::Lora;
use kiln::models::prompt::Syntax;
use kiln::models::stable_diffusion::{Additions, Request, StableDiffusion, Start};
use kiln::models::textual_inversion::TextualInversion;
use kiln::models::weights::{Files, Folder};

use super::samplers::{SAMPLERS, Sampler};
use crate::bundled;
use crate::device::PrecisionKind;

#[derive(clap::Args)]
pub struct Options {
    /// What the pictures are not to show.
    #[arg(long, value_name = "TEXT", default_value = "")]
    negative: String,
    /// Where the picture goes: a file, where there is one, or a folder.
    #[arg(long, value_name = "PATH", default_value = "pictures")]
    out: PathBuf,
    /// Width and height in pixels, as 512x768 [default: the model's own].
    #[arg(long, value_name = "WxH", value_parser = crate::made::size)]
    size: Option<[usize; 2]>,
    /// Steps of the sampler.
    #[arg(long, value_name = "N", default_value_t = 30)]
    steps: usize,
    /// How strongly the prompt leads; up to 1 not at all.
    #[arg(long, value_name = "G", default_value_t = 7.5)]
    guidance: f32,
    /// How much of the spread of the prompt's own output the guided one gets back, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    guidance_rescale: f32,
    /// The first picture's seed; the others' follow it [default: a new one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=u64::from(u32::MAX)))]
    pub seed: Option<u64>,
    /// How many pictures.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Pictures computed at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub batch: u32,
    /// Sampler [default: the model's own].
    #[arg(long, value_name = "NAME", value_parser = sampler)]
    sampler: Option<&'static Sampler>,
    /// DDIM's share of fresh noise, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    eta: f64,
    /// Layers of the text encoder left out at its end.
    #[arg(long, value_name = "N", default_value_t = 0)]
    clip_skip: usize,
    /// Read weights and BREAK in prompts, as in (word:1.3), and prompts of any length.
    #[arg(long)]
    weighted: bool,
    /// A learned word (textual inversion), a .safetensors file; NAME=FILE names it. May be repeated.
    #[arg(long, value_name = "FILE")]
    embedding: Vec<String>,
    /// A LoRA, a .safetensors file; FILE:0.7 takes so much of it. May be repeated.
    #[arg(long, value_name = "FILE[:SCALE]")]
    lora: Vec<String>,
    /// The tokenizer of a checkpoint in one file: its folder, or a pipeline's that holds it [default: the one
    /// beside the file, or else CLIP's own].
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// A pipeline's folder whose configurations are those of a checkpoint in one file [default: guessed from its weights].
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// What the model predicts: epsilon, v_prediction or sample [default: as its scheduler has it].
    #[arg(long, value_name = "KIND")]
    prediction: Option<String>,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionKind,
    /// Parts of the model leave the device when their work is done.
    #[arg(long)]
    pub low_memory: bool,
    /// Decode and encode in tiles with blended seams where a whole picture takes more than so many MiB.
    #[arg(long, value_name = "MIB")]
    pub decode_memory: Option<u32>,
    /// Write a preview beside each picture after every so many steps.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    pub preview: Option<u32>,
    /// What decodes previews instead of the model's own autoencoder: a folder or hub:owner/name of a quicker one, as TAESD.
    #[arg(long, value_name = "MODEL", requires = "preview")]
    preview_model: Option<String>,
}

fn sampler(text: &str) -> Result<&'static Sampler, String> {
    let names = || SAMPLERS.iter().map(|sampler| sampler.name).collect::<Vec<_>>().join(", ");
    let found = SAMPLERS.iter().find(|sampler| sampler.name == text);
    found.ok_or_else(|| format!("{text:?} is none of {}", names()))
}

impl Options {
    /// The request of a prompt, for a seed that is yet to come.
    pub fn request(&self, prompt: &str, start: Option<Start>, pipeline: &StableDiffusion) -> Result<Request> {
        if self.out.extension().is_some() && self.count > 1 {
            bail!(
                "{} is one file, and {} pictures are wanted: name a folder",
                self.out.display(),
                self.count
            );
        }
        Ok(Request {
            prompt: prompt.into(),
            negative_prompt: self.negative.clone(),
            syntax: if self.weighted { Syntax::Weighted } else { Syntax::Plain },
            clip_skip: self.clip_skip,
            size: Some(self.size.unwrap_or_else(|| pipeline.default_size())),
            steps: self.steps,
            guidance_scale: self.guidance,
            guidance_rescale: self.guidance_rescale,
            eta: self.eta,
            scheduler: self.sampler.map(|sampler| sampler.class.into()),
            karras: self.sampler.map(|sampler| sampler.karras),
            seeds: vec![0],
            start,
        })
    }

    /// Where the picture of a seed goes.
    pub fn path(&self, command: &str, seed: u64) -> PathBuf {
        if self.out.extension().is_some() {
            self.out.clone()
        } else {
            self.out.join(format!("{command}-{seed}.png"))
        }
    }

    /// The autoencoder that decodes previews.
    pub fn preview_codec(&self, pipeline: &StableDiffusion) -> Result<LatentCodec> {
        let own = pipeline.codec();
        let Some(model) = &self.preview_model else { return Ok(own.another()) };
        let codec =
            LatentCodec::open(&bundled::files(model)?, pipeline.device().clone(), pipeline.precision())?;
        let [has, wants] = [codec.model(), own.model()].map(|model| model.latent_channels());
        if has != wants {
            bail!("{model} decodes latents of {has} channels, and the model's have {wants}");
        }
        Ok(codec)
    }

    /// What goes with the model.
    pub fn additions(&self) -> Result<Additions> {
        Ok(Additions {
            words: self.words()?,
            loras: self.loras()?,
            tokenizer: self.tokenizer.as_deref().map(folder).transpose()?,
            config: self.config.as_deref().map(folder).transpose()?,
            prediction: self.prediction.clone(),
        })
    }

    /// The LoRAs' names and scales, as pictures' parameters have them.
    pub fn lora_names(&self) -> Vec<String> {
        let name = |argument: &String| {
            let (file, scale) = scaled(argument);
            let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
            format!("{stem}:{scale}")
        };
        self.lora.iter().map(name).collect()
    }

    fn loras(&self) -> Result<Vec<Lora>> {
        let open = |argument: &String| {
            let (path, scale) = scaled(argument);
            let (files, file) = split(Path::new(path))?;
            Ok(Lora::open(&files, &file, scale)?)
        };
        self.lora.iter().map(open).collect()
    }

    fn words(&self) -> Result<Vec<TextualInversion>> {
        let open = |argument: &String| {
            let (name, path) = match argument.split_once('=') {
                Some((name, path)) => (Some(name), Path::new(path)),
                None => (None, Path::new(argument.as_str())),
            };
            let (files, file) = split(path)?;
            Ok(TextualInversion::open(&files, &file, name)?)
        };
        self.embedding.iter().map(open).collect()
    }
}

/// A file's name and the scale behind it, which is 1 where there is none.
fn scaled(argument: &str) -> (&str, f32) {
    let split = argument.rsplit_once(':').and_then(|(file, scale)| Some((file, scale.parse().ok()?)));
    split.unwrap_or((argument, 1.0))
}

/// A file's folder and its name there.
pub fn split(path: &Path) -> Result<(Arc<dyn Files>, String)> {
    let file = path.file_name().ok_or_else(|| anyhow!("{} is no file's name", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok((Arc::new(Folder::new(folder)), file.to_string_lossy().into_owned()))
}

fn folder(path: &Path) -> Result<Arc<dyn Files>> {
    if !path.is_dir() {
        bail!("{} is no folder", path.display());
    }
    Ok(Arc::new(Folder::new(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_behind_the_last_colon() {
        for (argument, file, scale) in [
            ("ink.safetensors", "ink.safetensors", 1.0),
            ("ink.safetensors:0.7", "ink.safetensors", 0.7),
            ("a:b.safetensors:-1", "a:b.safetensors", -1.0),
            ("C:\\ink.safetensors", "C:\\ink.safetensors", 1.0),
            ("", "", 1.0),
        ] {
            assert_eq!(scaled(argument), (file, scale));
        }
    }
}
