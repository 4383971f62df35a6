//! CLIP's text encoder of transformers, alone or as a part of a whole CLIP.

use kiln_graph::{DType, Tensor};

use super::{Computed, Family};
use crate::Taps;
use crate::clip_text::{ClipText, Config, Prompts};
use crate::verify::{ModelRun, VerifyError};

pub(super) const FAMILY: Family = Family {
    matches: |name| ["clip", "clip_text_model"].contains(&name),
    nmse: [1e-9, 1e-5],
    equal: 1.0,
    reported: |_| false,
    run,
};

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let clip = ClipText::new(Config::from_json(run.config)?, run.weights)?;
        let ids = run.input("input_ids")?.cast(DType::I32);
        let mut prompts = clip.prompts(&ids)?;
        let mut inputs = vec![("input_ids", ids)];
        // A mask that hides nothing is none.
        let mask = run.input("attention_mask").ok().filter(|mask| mask.to_f64().contains(&0.0));
        if let Some(mask) = mask {
            prompts = Prompts { masked: true, ..prompts };
            inputs.push(("attention_mask", mask.cast(DType::Bool)));
        }
        let graph = clip.graph(prompts, &Taps::of(&run.layers))?;
        let mut outputs = run.compute(graph, Default::default(), &inputs).await?;
        let whole = run.config.get("model_type").is_some_and(|kind| kind == "clip");
        if let (true, Some(embeds)) = (whole, outputs.get_mut("text_embeds")) {
            *embeds = unit_rows(embeds)?;
        }
        Ok(outputs)
    })
}

/// The rows with length 1, which is how a whole CLIP gives them.
fn unit_rows(embeds: &Tensor) -> Result<Tensor, VerifyError> {
    let width = embeds.shape().last().copied().unwrap_or(1).max(1);
    let mut values = embeds.to_f64();
    for row in values.chunks_mut(width) {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v /= length);
    }
    Ok(Tensor::from_f64(embeds.shape(), DType::F32, &values)?)
}
