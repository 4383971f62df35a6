//! Pictures in and out: decoding, the ecosystem's resampling, and what a model's processor does to pixels.

pub(crate) mod batch;
mod decode;
mod fill;
mod heat_map;
mod processor;
pub mod quality;
mod resample;

pub use decode::{Picture, PictureError};
pub use fill::fill;
pub use heat_map::{HeatMap, overlay};
pub use processor::{Crop, ImageProcessor, ProcessorError, Resize};
pub use resample::{Filter, resize};
