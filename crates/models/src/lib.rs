//! Which graphs: models, their weights and their pre- and post-processing.
#![deny(missing_docs)]

pub mod amused;
pub mod autoencoder_kl;
pub mod autoencoder_tiny;
mod blocks;
pub mod classify;
pub mod clip_text;
pub mod coco;
pub mod code_codec;
mod config;
pub mod dcgan;
pub mod detect;
pub mod detr;
pub mod diffusion;
mod error;
mod folder;
pub mod gpt;
mod halves;
pub mod image;
pub mod latent_codec;
pub mod latents;
mod layers;
pub mod lora;
mod prepared;
#[cfg(not(target_arch = "wasm32"))]
mod profile;
pub mod prompt;
pub mod random;
pub mod resnet;
mod runner;
pub mod schedulers;
mod single_file;
pub mod stable_diffusion;
pub mod suppress;
mod taps;
pub mod textual_inversion;
mod tiled;
pub mod tokenizer;
pub mod unet;
pub mod uvit2d;
pub mod verify;
pub mod vit;
pub mod vq_model;
pub mod vqgan;
pub mod weights;

pub use classify::{Classification, Classifier};
pub use code_codec::CodeCodec;
pub use detect::{Detection, Detector, Segment, SegmentOptions, Segmentation};
pub use error::Error;
pub use folder::model_config;
pub use latent_codec::{LatentCodec, Tiling};
pub use latents::LatentDist;
pub use lora::LoraError;
#[cfg(not(target_arch = "wasm32"))]
pub use profile::ModelProfile;
pub use prompt::PromptError;
pub use runner::{Device, Runner, Snapshot};
pub use taps::Taps;
pub use tokenizer::{Tokenizer, TokenizerError};
pub use vqgan::Vqgan;
