//! Which graphs: models, their weights and their pre- and post-processing.
#![deny(missing_docs)]

pub mod image;
pub mod verify;
pub mod weights;
