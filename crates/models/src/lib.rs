//! Which graphs: models, their weights and their pre- and post-processing.
#![deny(missing_docs)]

pub mod classify;
pub mod coco;
mod config;
pub mod detect;
pub mod detr;
mod error;
mod folder;
pub mod image;
mod layers;
mod prepared;
pub mod resnet;
mod runner;
mod taps;
pub mod verify;
pub mod vit;
pub mod weights;

pub use classify::{Classification, Classifier, ModelProfile};
pub use detect::{Detection, Detector};
pub use error::Error;
pub use runner::{Device, Runner};
pub use taps::Taps;
