//! Residual networks of timm and transformers.

use super::{Computed, Family, images_second};
use crate::Taps;
use crate::resnet::{Config, ResNet};
use crate::verify::ModelRun;

pub(super) const FAMILY: Family = Family {
    matches: |name| name == "resnet" || Config::is_timms(name),
    nmse: [1e-9, 1e-5],
    equal: 1.0,
    reported: |_| false,
    run,
};

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let net = ResNet::new(Config::from_json(run.config)?, run.weights)?;
        let pixels = run.image("pixel_values")?;
        let &[batch, height, width, _] = pixels.shape() else { return Ok(Default::default()) };
        let graph = net.graph(batch, [height, width], &Taps::of(&run.layers))?;
        images_second(run.compute(graph, Default::default(), &[("pixel_values", pixels)]).await?)
    })
}
