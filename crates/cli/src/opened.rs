//! A model of any family, for commands that measure models.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use kiln::engine::Precision;
use kiln::models::image::Picture;
use kiln::models::weights::Files;
use kiln::models::{Classifier, Detector, Device, ModelProfile};

use crate::bundled;

/// Largest configuration file that is looked into.
const MAX_CONFIG: u64 = 64 << 20;

/// An opened model.
pub enum Opened {
    Classifier(Box<Classifier>),
    Detector(Box<Detector>),
}

impl Opened {
    /// Opens MODEL as what its `config.json` says it is.
    pub fn open(model: &str, device: Device, precision: Precision) -> Result<Self> {
        Ok(if is_detector(&bundled::files(model)?) {
            Self::Detector(Box::new(bundled::detector(model, device, precision)?))
        } else {
            Self::Classifier(Box::new(bundled::classifier(model, device, precision)?))
        })
    }

    /// A grey picture of a size that the model usually meets.
    pub fn usual_picture(&self) -> Result<Picture> {
        let [height, width] = match self {
            Self::Classifier(classifier) => classifier.model().image_size(),
            Self::Detector(_) => [480, 640],
        };
        Ok(Picture::new(width, height, vec![128; width * height * 3])?)
    }

    /// Processes a picture, computes and reads the answer.
    pub fn run(&mut self, picture: &Picture) -> Result<()> {
        let pictures = std::slice::from_ref(picture);
        match self {
            Self::Classifier(classifier) => drop(classifier.classify_blocking(pictures)?),
            Self::Detector(detector) => drop(detector.detect_blocking(pictures)?),
        }
        Ok(())
    }

    /// Times each node of a run; `None` on the CPU reference.
    pub fn profile(&mut self, picture: &Picture) -> Result<Option<ModelProfile>> {
        Ok(match self {
            Self::Classifier(classifier) => classifier.profile_blocking(picture)?,
            Self::Detector(detector) => detector.profile_blocking(picture)?,
        })
    }

    /// Paths of the nodes that run in f32 because a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        match self {
            Self::Classifier(classifier) => classifier.kept_f32(),
            Self::Detector(detector) => detector.kept_f32(),
        }
    }
}

/// Whether `config.json` is a detector's. What cannot be read is refused when the model is opened.
fn is_detector(files: &Arc<dyn Files>) -> bool {
    let config = files.read("config.json", MAX_CONFIG).ok().flatten();
    let json = config.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    json.is_some_and(|json| json.get("model_type").and_then(|kind| kind.as_str()) == Some("detr"))
}
