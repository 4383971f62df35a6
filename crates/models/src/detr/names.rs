//! The names of DETR's weights.

use crate::weights::Weights;

/// The weights' names: those of transformers' files, or those it has in memory since version 5.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `detr.` where a head for masks stands beside the detector.
    root: &'static str,
    memory: bool,
}

impl Names {
    /// Whose names `weights` has.
    pub fn of(weights: &dyn Weights) -> Self {
        let there = |name: &str| weights.shape(name).is_some();
        let root = if there("detr.class_labels_classifier.weight") { "detr." } else { "" };
        let part = format!("{root}model.encoder.layers.0.mlp.fc1.weight");
        Self { root, memory: there(&part) }
    }

    /// A weight or module of the model itself.
    pub fn model(&self, name: &str) -> String {
        format!("{}model.{name}", self.root)
    }

    /// A weight or module of a head.
    pub fn head(&self, name: &str) -> String {
        format!("{}{name}", self.root)
    }

    /// What the backbone's names begin with.
    pub fn backbone(&self) -> String {
        self.model(if self.memory { "backbone.model." } else { "backbone.conv_encoder.model." })
    }

    /// Layer `i` of `encoder` or `decoder`.
    pub fn layer(&self, part: &str, i: usize) -> String {
        self.model(&format!("{part}.layers.{i}"))
    }

    /// An attention's last projection.
    pub fn output(&self) -> &'static str {
        if self.memory { "o_proj" } else { "out_proj" }
    }

    /// A perceptron's first layer.
    pub fn fc1(&self) -> &'static str {
        if self.memory { "mlp.fc1" } else { "fc1" }
    }

    /// A perceptron's second layer.
    pub fn fc2(&self) -> &'static str {
        if self.memory { "mlp.fc2" } else { "fc2" }
    }
}
