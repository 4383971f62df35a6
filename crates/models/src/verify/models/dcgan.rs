//! Generators of DCGAN and WGAN.

use super::{Computed, Family, channels_second, images_second};
use crate::Taps;
use crate::dcgan::Dcgan;
use crate::verify::{ModelRun, VerifyError};

pub(super) const FAMILY: Family = Family {
    matches: |name| ["dcgan", "Generator", "DCGAN_G", "DCGAN_G_nobn"].contains(&name),
    nmse: [1e-9, 1e-5],
    equal: 1.0,
    reported: |_| false,
    run,
};

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let model = Dcgan::new(run.weights)?;
        // Noise may be images of one pixel.
        let latents = run.input("latents")?;
        let (&[batch, width] | &[batch, width, 1, 1]) = latents.shape() else {
            let reason = format!("has shape {:?}, which is no batch of noise", latents.shape());
            return Err(VerifyError::Tensor { name: "latents".into(), reason });
        };
        let latents = latents.clone().reshape([batch, width])?;
        let graph = model.graph(batch, &Taps::of(&run.layers))?;
        let mut outputs = run.compute(graph, Default::default(), &[("latents", latents)]).await?;
        if let Some(image) = outputs.get_mut("image") {
            *image = channels_second(image)?;
        }
        images_second(outputs)
    })
}
