//! Models against expected tensors: one file a family, which turns a run's inputs into tensors.

use std::collections::HashMap;
use std::pin::Pin;

use kiln_graph::Tensor;

use super::model::channels_second;
use super::{ModelRun, VerifyError};

mod autoencoder;
mod clip_text;
mod dcgan;
mod detr;
mod gpt;
mod resnet;
mod sd_pipeline;
mod unet;
mod uvit2d;
mod vit;
mod vq_model;

/// What a run computes: `logits`, `mid.layer0` ..., in the disk's layout.
pub type Computed<'a> = Pin<Box<dyn Future<Output = Result<HashMap<String, Tensor>, VerifyError>> + 'a>>;

/// A model family.
pub struct Family {
    /// Whether this name is one of the family's: a `model_type`, timm's `architecture`, or a `_class_name`.
    pub matches: fn(&str) -> bool,
    /// Default gates on NMSE, in f32 and in f16.
    pub nmse: [f64; 2],
    /// Share of a tensor's integers that have to be equal in f16. In f32 all of them have to be.
    pub equal: f64,
    /// Outputs, with `out.`, that are compared in f16 but not held to a gate.
    pub reported: fn(&str) -> bool,
    /// Computes a run.
    pub run: for<'a> fn(&'a ModelRun<'a>) -> Computed<'a>,
}

/// The families that Kiln computes.
pub const FAMILIES: &[Family] = &[
    autoencoder::FAMILY,
    clip_text::FAMILY,
    dcgan::FAMILY,
    detr::FAMILY,
    gpt::FAMILY,
    resnet::FAMILY,
    sd_pipeline::FAMILY,
    unet::FAMILY,
    uvit2d::FAMILY,
    vit::FAMILY,
    vq_model::FAMILY,
];

/// Hidden layers that are images, channels last, as they lie on disk. Attention's weights have four axes too, and no channels.
fn images_second(outputs: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>, VerifyError> {
    let lay = |(name, tensor): (String, Tensor)| {
        let image = name.starts_with("mid.") && !name.contains("attention") && tensor.shape().len() == 4;
        let tensor = if image { channels_second(&tensor)? } else { tensor };
        Ok((name, tensor))
    };
    outputs.into_iter().map(lay).collect()
}
