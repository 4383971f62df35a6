//! What kind of model makes the pictures, and which options it takes.

use std::sync::Arc;

use anyhow::{Result, bail};
use kiln::models::Vqgan;
use kiln::models::weights::{self, Files};
use serde_json::Value as Json;

use super::Args;

/// Largest configuration file that is looked into.
const MAX_CONFIG: u64 = 64 << 20;

/// What can be sampled.
const KINDS: &str = "a VQGAN of two stages, an AmusedPipeline, or a GAN's generator";

/// A kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Vqgan,
    Amused,
    Gan,
}

impl Kind {
    /// The kind of MODEL. One whose configuration cannot be read passes for what is most likely, which says what is wrong
    /// when it is opened.
    pub fn of(model: &str, files: &Arc<dyn Files>) -> Result<Self> {
        const INDEX: &str = "model_index.json";
        let json = |name: &str| {
            let bytes = files.read(name, MAX_CONFIG).ok().flatten()?;
            serde_json::from_slice::<Json>(&bytes).ok()
        };
        let text = |json: &Json, key: &str| json.get(key).and_then(Json::as_str).map(str::to_string);
        if !matches!(files.size(INDEX), Ok(None)) {
            return match json(INDEX).and_then(|index| text(&index, "_class_name")) {
                Some(class) if !class.starts_with("Amused") => {
                    bail!("{model} is of a {class}, and sample takes {KINDS}")
                }
                _ => Ok(Self::Amused),
            };
        }
        let config = json("config.json");
        let names = || Ok::<_, weights::WeightError>(weights::open(files)?.names());
        let says = config.as_ref().and_then(|config| text(config, "model_type"));
        if says.as_deref() == Some("dcgan") || names()?.iter().any(|name| name.starts_with("main.")) {
            return Ok(Self::Gan);
        }
        match config {
            Some(config) if !Vqgan::is_config(&config) => {
                bail!("{model} is of another kind than sample takes: {KINDS}")
            }
            // Its configuration may be YAML.
            _ => Ok(Self::Vqgan),
        }
    }

    /// Refuses options that a model of this kind does not take.
    pub fn admit(self, args: &Args) -> Result<()> {
        const CODES: &[Kind] = &[Kind::Vqgan, Kind::Amused];
        let options = [
            ("--size", args.size.is_some(), CODES),
            ("--complete", args.complete.is_some(), CODES),
            ("--temperature", args.temperature.is_some(), CODES),
            ("--preview", args.preview.is_some(), CODES),
            ("--class", !args.class.is_empty(), &[Self::Vqgan]),
            ("--map", args.map.is_some(), &[Self::Vqgan]),
            ("--classes", args.classes, &[Self::Vqgan]),
            ("--top-k", args.top_k.is_some(), &[Self::Vqgan]),
            ("--top-p", args.top_p.is_some(), &[Self::Vqgan]),
            ("--prompt", args.prompt.is_some(), &[Self::Amused]),
            ("--negative", args.negative.is_some(), &[Self::Amused]),
            ("--steps", args.steps.is_some(), &[Self::Amused]),
            ("--guidance", args.guidance.is_some(), &[Self::Amused]),
        ];
        let refused = options.iter().filter(|(_, given, takes)| *given && !takes.contains(&self));
        let refused: Vec<&str> = refused.map(|(name, ..)| *name).collect();
        if !refused.is_empty() {
            bail!("{} is {}, which takes no {}", args.model, self.name(), refused.join(" and no "));
        }
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Vqgan => "a VQGAN",
            Self::Amused => "aMUSEd",
            Self::Gan => "a GAN's generator",
        }
    }
}
