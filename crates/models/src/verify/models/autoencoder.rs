//! diffusers' autoencoders: images to latents where there are images, latents to images where there are latents.

use std::collections::HashMap;

use kiln_graph::{Graph, Tensor};

use super::{Computed, Family};
use crate::autoencoder_kl::{self, Autoencoder};
use crate::autoencoder_tiny::{self, TinyAutoencoder};
use crate::verify::model::channels_second;
use crate::verify::{ModelRun, VerifyError};
use crate::{Error, Taps};

pub(super) const FAMILY: Family = Family {
    matches: |name| [KL, TINY].contains(&name),
    nmse: [1e-8, 1e-3],
    equal: 1.0,
    reported: |_| false,
    run,
};

const KL: &str = "AutoencoderKL";
const TINY: &str = "AutoencoderTiny";

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let taps = Taps::of(&run.layers);
        if run.config.get("_class_name").is_some_and(|name| name == TINY) {
            let model = TinyAutoencoder::new(autoencoder_tiny::Config::from_json(run.config)?, run.weights)?;
            let encode = |batch, size| model.encode_graph(batch, size, &taps);
            both(run, encode, |batch, size| model.decode_graph(batch, size, &taps)).await
        } else {
            let model = Autoencoder::new(autoencoder_kl::Config::from_json(run.config)?, run.weights)?;
            let encode = |batch, size| model.encode_graph(batch, size, &taps);
            both(run, encode, |batch, size| model.decode_graph(batch, size, &taps)).await
        }
    })
}

/// What the two halves make of their inputs, images with channels second.
async fn both(
    run: &ModelRun<'_>,
    encode: impl Fn(usize, [usize; 2]) -> Result<Graph, Error>,
    decode: impl Fn(usize, [usize; 2]) -> Result<Graph, Error>,
) -> Result<HashMap<String, Tensor>, VerifyError> {
    let mut outputs = HashMap::new();
    let halves: [(_, &dyn Fn(_, _) -> _); 2] = [("image", &encode), ("latents", &decode)];
    for (name, graph) in halves {
        if !run.inputs.contains_key(name) {
            continue;
        }
        let input = run.image(name)?;
        let &[batch, height, width, _] = input.shape() else { continue };
        let computed =
            run.compute(graph(batch, [height, width])?, Default::default(), &[(name, input)]).await?;
        for (name, tensor) in computed {
            outputs.insert(name, channels_second(&tensor)?);
        }
    }
    Ok(outputs)
}
