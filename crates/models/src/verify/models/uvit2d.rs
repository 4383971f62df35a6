//! U-ViT of diffusers, which aMUSEd decodes by.

use kiln_graph::DType;

use super::{Computed, Family, channels_second, images_second};
use crate::Taps;
use crate::uvit2d::{Config, Shape, UVit2d};
use crate::verify::ModelRun;

pub(super) const FAMILY: Family = Family {
    matches: |name| name == "UVit2DModel",
    nmse: [1e-9, 1e-4],
    equal: 1.0,
    reported: |_| false,
    run,
};

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let model = UVit2d::new(Config::from_json(run.config)?, run.weights)?;
        let ids = run.input("input_ids")?.cast(DType::I32);
        let &[batch, height, width] = ids.shape() else { return Ok(Default::default()) };
        let states = run.input("encoder_hidden_states")?.clone();
        let tokens = states.shape().get(1).copied().unwrap_or(0);
        let inputs = [
            ("input_ids", ids),
            ("encoder_hidden_states", states),
            ("pooled_text_emb", run.input("pooled_text_emb")?.clone()),
            ("micro_conds", run.input("micro_conds")?.cast(DType::F32)),
        ];
        let graph = model.graph(Shape { batch, size: [height, width], tokens }, &Taps::of(&run.layers))?;
        let keep_f32 = model.keep_f32(&graph);
        let mut outputs = run.compute(graph, keep_f32, &inputs).await?;
        if let Some(logits) = outputs.get_mut("logits") {
            *logits = channels_second(logits)?;
        }
        images_second(outputs)
    })
}
