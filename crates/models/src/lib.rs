//! Which graphs: models, their weights and their pre- and post-processing.
#![deny(missing_docs)]

pub mod classify;
mod config;
pub mod detr;
mod error;
pub mod image;
pub mod resnet;
mod runner;
mod taps;
pub mod verify;
pub mod vit;
pub mod weights;

pub use classify::{Classification, Classifier, ModelProfile};
pub use error::Error;
pub use runner::{Device, Runner};
pub use taps::Taps;
