//! Autoencoders with a codebook: images to codes, and codes to images.

mod ties;

use std::collections::HashMap;

use kiln_engine::Precision;
use kiln_graph::{DType, Tensor};

use super::{Computed, Family, images_second};
use crate::Taps;
use crate::verify::model::channels_second;
use crate::verify::{ModelRun, VerifyError};
use crate::vq_model::{Config, VqModel, diffusers_names};
use crate::weights::SharedWeights;

pub(super) const FAMILY: Family =
    Family { matches: |name| name == "VQModel", nmse: [1e-9, 1e-4], equal: 0.98, reported: |_| false, run };

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let weights = diffusers_names(run.shared());
        let model = VqModel::new(Config::from_json(run.config)?, weights.as_ref())?;
        let (mut outputs, codes) = match run.inputs.get("indices") {
            Some(codes) => (HashMap::new(), codes.cast(DType::I32)),
            None => encode(run, &model, &weights).await?,
        };
        let &[batch, height, width] = codes.shape() else {
            let reason = format!("has shape {:?} instead of batch, height and width", codes.shape());
            return Err(VerifyError::Tensor { name: "indices".into(), reason });
        };
        model.check_codes(&codes)?;
        let graph = model.decode_graph(batch, [height, width], &Taps::of(&run.layers))?;
        let keep_f32 = model.keep_f32(&graph);
        let decoded = run.compute_with(&weights, graph, keep_f32, &[("codes", codes)]).await?;
        outputs.extend(decoded);
        for name in ["latents", "quantized", "image"] {
            if let Some(image) = outputs.get_mut(name) {
                *image = channels_second(image)?;
            }
        }
        images_second(outputs)
    })
}

/// What the encoder makes of the run's images, and the codes that are to be decoded.
///
/// Those are its own, but in f16 the expected ones: a code that is off is a patch of another picture, which says nothing of
/// the decoder. How many are off has a gate of its own.
async fn encode(
    run: &ModelRun<'_>,
    model: &VqModel,
    weights: &SharedWeights,
) -> Result<(HashMap<String, Tensor>, Tensor), VerifyError> {
    let image = run.image("image")?;
    let missing = || VerifyError::Tensor { name: "codes".into(), reason: "is not computed".into() };
    let &[batch, height, width, _] = image.shape() else { return Err(missing()) };
    let graph = model.encode_graph(batch, [height, width], &Taps::of(&run.layers))?;
    let keep_f32 = model.keep_f32(&graph);
    let mut outputs = run.compute_with(weights, graph, keep_f32, &[("image", image)]).await?;
    let mut own = outputs.remove("codes").ok_or_else(missing)?;
    let mut decoded = None;
    if let Some(expected) = run.expected.get("indices").filter(|expected| expected.len() == own.len()) {
        let expected = expected.cast(DType::I32).reshape(own.shape())?;
        if run.precision() == Precision::F16 {
            decoded = Some(expected);
        } else if let Some(latents) = outputs.get("latents") {
            let noise = run.noise.get("latents").copied().unwrap_or(0.0);
            own = ties::settle(model.config(), weights.as_ref(), latents, noise, own, &expected)?;
        }
    }
    let rows = own.len().checked_div(batch).unwrap_or(0);
    outputs.insert("indices".into(), own.reshape([batch, rows])?);
    Ok((outputs, decoded.unwrap_or(own)))
}
