//! Vision Transformers of transformers and timm.

use super::{Computed, Family};
use crate::Taps;
use crate::verify::ModelRun;
use crate::vit::{Config, Vit};

pub(super) const FAMILY: Family = Family {
    matches: |name| ["vit", "deit"].contains(&name) || name.starts_with("vit_") || name.starts_with("deit"),
    nmse: [1e-9, 1e-5],
    equal: 1.0,
    reported: |_| false,
    run,
};

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let vit = Vit::new(Config::from_json(run.config)?, run.weights)?;
        let pixels = run.image("pixel_values")?;
        let &[batch, height, width, _] = pixels.shape() else { return Ok(Default::default()) };
        let graph = vit.graph(batch, [height, width], &Taps::of(&run.layers))?;
        let keep_f32 = vit.keep_f32(&graph);
        run.compute(graph, keep_f32, &[("pixel_values", pixels)]).await
    })
}
