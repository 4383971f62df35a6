//! A model's weights by all the names that LoRA files have for them.

use std::collections::HashMap;

use crate::unet::original::Layout;
use crate::weights::{Renaming, Weights};

/// The weights of a part of a pipeline.
pub(super) struct Targets<'a> {
    weights: &'a dyn Weights,
    /// Names by the names of their modules: with dots, or with underscores.
    names: HashMap<String, String>,
}

impl<'a> Targets<'a> {
    /// Those of a UNet, by diffusers' names and by the original ones.
    pub fn unet(weights: &'a dyn Weights) -> Self {
        let original: Renaming =
            Layout::of(weights).modules().into_iter().map(|[ours, theirs]| (ours, theirs)).collect();
        Self::new(weights, |name| vec![Some(name.to_string()), original.apply(name)])
    }

    /// Those of a text encoder, whose names may begin with `text_model.` or not, in its own files too.
    pub fn text(weights: &'a dyn Weights) -> Self {
        Self::new(weights, |name| {
            let bare = name.strip_prefix("text_model.").unwrap_or(name);
            vec![Some(bare.to_string()), Some(format!("text_model.{bare}"))]
        })
    }

    fn new(weights: &'a dyn Weights, all: impl Fn(&str) -> Vec<Option<String>>) -> Self {
        let mut names = HashMap::new();
        for name in weights.names() {
            // Biases and norms have one axis.
            if weights.shape(&name).is_none_or(|shape| shape.len() < 2) {
                continue;
            }
            for other in all(&name).into_iter().flatten() {
                let Some(module) = other.strip_suffix(".weight") else { continue };
                names.insert(module.replace('.', "_"), name.clone());
                names.insert(module.to_string(), name.clone());
            }
        }
        Self { weights, names }
    }

    /// The weight of a module, and its shape.
    pub fn find(&self, module: &str) -> Option<(&str, &'a [usize])> {
        let name = self.names.get(module)?;
        Some((name, self.weights.shape(name)?))
    }

    /// Where the weights come from.
    pub fn display(&self) -> String {
        self.weights.display()
    }
}
