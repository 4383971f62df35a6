//! PEFT's configuration of a LoRA, which diffusers keeps in a file's metadata.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::LoraError;
use super::key::Part;
use crate::weights::{Checkpoint, Weights};

/// The metadata's name: a JSON object of PEFT's `LoraConfig`, whose keys have the part's name and a dot before them.
const METADATA: &str = "lora_adapter_metadata";

/// What is said of the alphas of each part.
#[derive(Default)]
pub(super) struct Adapter {
    parts: Vec<(Part, Config)>,
}

#[derive(Default)]
struct Config {
    alpha: Option<f64>,
    /// Alphas of some modules, by the ends of their paths.
    patterns: BTreeMap<String, f64>,
    by_root: bool,
}

impl Adapter {
    /// What the file says. [`LoraError::Kind`] where it is a DoRA by that.
    pub fn of(tensors: &Checkpoint) -> Result<Self, LoraError> {
        let Some(text) = tensors.metadata(METADATA) else { return Ok(Self::default()) };
        let wrong = |reason: String| LoraError::Metadata { file: tensors.display(), key: METADATA, reason };
        let json: Json =
            serde_json::from_str(text).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let read = |part: &str| {
            let get = |key: &str| json.get(format!("{part}.{key}")).filter(|value| !value.is_null());
            let number =
                |value: &Json| value.as_f64().ok_or_else(|| wrong(format!("has an alpha of {value}")));
            if get("use_dora").and_then(Json::as_bool) == Some(true) {
                let (file, key) = (tensors.display(), format!("{part}.use_dora"));
                return Err(LoraError::Kind { file, key, kind: "a DoRA" });
            }
            let patterns = get("alpha_pattern").and_then(Json::as_object).into_iter().flatten();
            Ok(Config {
                alpha: get("lora_alpha").map(number).transpose()?,
                patterns: patterns
                    .map(|(module, alpha)| Ok((module.clone(), number(alpha)?)))
                    .collect::<Result<_, LoraError>>()?,
                by_root: get("use_rslora").and_then(Json::as_bool) == Some(true),
            })
        };
        Ok(Self { parts: vec![(Part::Unet, read("unet")?), (Part::Text, read("text_encoder")?)] })
    }

    /// A module's alpha, where there is one, and whether it is divided by the rank's square root.
    pub fn scaling(&self, part: Part, module: &str) -> (Option<f64>, bool) {
        let Some((_, config)) = self.parts.iter().find(|(other, _)| *other == part) else {
            return (None, false);
        };
        // PEFT takes the names for the ends of paths.
        let named = |(end, _): &(&String, &f64)| {
            module.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let own = config.patterns.iter().find(named).map(|(_, alpha)| *alpha);
        (own.or(config.alpha), config.by_root)
    }
}
