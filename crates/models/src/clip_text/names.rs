//! The names of a text encoder's weights.

use crate::weights::Weights;

/// The weights' names: those of published files, which begin with `text_model.`, or those without it that transformers
/// writes since version 5.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: &'static str,
}

impl Names {
    /// Whose names `weights` has.
    pub fn of(weights: &dyn Weights) -> Self {
        let bare = ["embeddings.token_embedding.weight", "final_layer_norm.weight"];
        let bare = bare.iter().any(|name| weights.shape(name).is_some());
        Self { prefix: if bare { "" } else { "text_model." } }
    }

    /// A weight or module of the encoder.
    pub fn model(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Layer `i`.
    pub fn layer(&self, i: usize) -> String {
        self.model(&format!("encoder.layers.{i}"))
    }

    /// What makes `text_embeds` of `pooler_output`.
    pub fn projection(&self) -> &'static str {
        "text_projection"
    }

    /// Whether a tensor that the graph does not use may be there: numbers that older files hold, and what stands beside a
    /// text encoder in a whole CLIP.
    pub fn may_ignore(&self, name: &str) -> bool {
        name.ends_with("position_ids")
            || name.starts_with("vision_model.")
            || ["visual_projection.weight", "logit_scale"].contains(&name)
    }
}
