//! The names of a residual network's weights.

use crate::weights::Weights;

/// Whose names the weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// timm's and torchvision's: `layer1.0.conv1`.
    Timm,
    /// transformers': `encoder.stages.0.layers.0.layer.0.convolution`.
    Transformers,
}

/// The weights' names behind a prefix. A convolution comes with the norm that follows it.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub layout: Layout,
    prefix: String,
}

impl Names {
    /// Whose names `weights` has behind `prefix`.
    pub fn of(weights: &dyn Weights, prefix: &str) -> Self {
        let transformers = weights.shape(&format!("{prefix}embedder.embedder.convolution.weight")).is_some();
        let layout = if transformers { Layout::Transformers } else { Layout::Timm };
        Self { layout, prefix: prefix.to_string() }
    }

    fn either(&self, timm: [String; 2], transformers: String) -> (String, String) {
        let prefix = &self.prefix;
        match self.layout {
            Layout::Timm => (format!("{prefix}{}", timm[0]), format!("{prefix}{}", timm[1])),
            Layout::Transformers => (
                format!("{prefix}{transformers}.convolution"),
                format!("{prefix}{transformers}.normalization"),
            ),
        }
    }

    pub fn stem(&self) -> (String, String) {
        self.either(["conv1".into(), "bn1".into()], "embedder.embedder".into())
    }

    /// Convolution `i` of a block.
    pub fn conv(&self, stage: usize, block: usize, i: usize) -> (String, String) {
        let (layer, number) = (stage + 1, i + 1);
        let timm = [format!("layer{layer}.{block}.conv{number}"), format!("layer{layer}.{block}.bn{number}")];
        self.either(timm, format!("encoder.stages.{stage}.layers.{block}.layer.{i}"))
    }

    /// The projection beside a block that changes size.
    pub fn shortcut(&self, stage: usize, block: usize) -> (String, String) {
        let at = format!("layer{}.{block}.downsample", stage + 1);
        let timm = [format!("{at}.0"), format!("{at}.1")];
        self.either(timm, format!("encoder.stages.{stage}.layers.{block}.shortcut"))
    }

    /// The classifier, which stands beside the prefix.
    pub fn head(&self) -> &'static str {
        match self.layout {
            Layout::Timm => "fc",
            Layout::Transformers => "classifier.1",
        }
    }
}
