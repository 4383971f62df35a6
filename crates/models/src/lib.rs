//! Which graphs: models, their weights and their pre- and post-processing.
#![deny(missing_docs)]

mod config;
mod error;
pub mod image;
mod taps;
pub mod verify;
pub mod vit;
pub mod weights;

pub use error::Error;
pub use taps::Taps;
