//! The names of DETR's weights.

use crate::weights::Weights;

/// The weights' names: those of transformers' files, or those it has in memory since version 5.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `detr.` where a head for masks stands beside the detector.
    root: &'static str,
    memory: bool,
}

/// A part of the head for masks. Its five blocks are numbered from 0, its three adapters too.
#[derive(Clone, Copy, Debug)]
pub(super) enum MaskPart {
    Query,
    Key,
    Conv(usize),
    Norm(usize),
    Adapter(usize),
    Out,
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

    /// Whether there is a head for masks.
    pub fn has_masks(&self) -> bool {
        !self.root.is_empty()
    }

    /// A part of the head for masks.
    pub fn masks(&self, part: MaskPart) -> &'static str {
        const LAYERS: [&str; 5] =
            ["mask_head.lay1", "mask_head.lay2", "mask_head.lay3", "mask_head.lay4", "mask_head.lay5"];
        const NORMS: [&str; 5] =
            ["mask_head.gn1", "mask_head.gn2", "mask_head.gn3", "mask_head.gn4", "mask_head.gn5"];
        const ADAPTERS: [&str; 3] = ["mask_head.adapter1", "mask_head.adapter2", "mask_head.adapter3"];
        const CONVS: [&str; 5] = [
            "mask_head.conv1.conv",
            "mask_head.conv2.conv",
            "mask_head.fpn_stages.0.refine.conv",
            "mask_head.fpn_stages.1.refine.conv",
            "mask_head.fpn_stages.2.refine.conv",
        ];
        const NEW_NORMS: [&str; 5] = [
            "mask_head.conv1.norm",
            "mask_head.conv2.norm",
            "mask_head.fpn_stages.0.refine.norm",
            "mask_head.fpn_stages.1.refine.norm",
            "mask_head.fpn_stages.2.refine.norm",
        ];
        const NEW_ADAPTERS: [&str; 3] = [
            "mask_head.fpn_stages.0.fpn_adapter",
            "mask_head.fpn_stages.1.fpn_adapter",
            "mask_head.fpn_stages.2.fpn_adapter",
        ];
        match (part, self.memory) {
            (MaskPart::Query, false) => "bbox_attention.q_linear",
            (MaskPart::Query, true) => "bbox_attention.q_proj",
            (MaskPart::Key, false) => "bbox_attention.k_linear",
            (MaskPart::Key, true) => "bbox_attention.k_proj",
            (MaskPart::Conv(i), false) => LAYERS[i % 5],
            (MaskPart::Conv(i), true) => CONVS[i % 5],
            (MaskPart::Norm(i), false) => NORMS[i % 5],
            (MaskPart::Norm(i), true) => NEW_NORMS[i % 5],
            (MaskPart::Adapter(i), false) => ADAPTERS[i % 3],
            (MaskPart::Adapter(i), true) => NEW_ADAPTERS[i % 3],
            (MaskPart::Out, false) => "mask_head.out_lay",
            (MaskPart::Out, true) => "mask_head.output_conv",
        }
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
