//! The names that the paper's own code gives the weights (`taming/models/vqgan.py` of
//! <https://github.com/CompVis/taming-transformers>).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::autoencoder_kl::original::{is_product, modules};
use crate::weights::{Place, Renaming, SharedWeights, View};

/// What stands before all names: nothing, or what trainers and models of two stages put there.
const PREFIXES: [&str; 3] = ["", "state_dict.", "first_stage_model."];

/// The weights by diffusers' names, whosever names they have. Of a model of two stages they are those of the first.
pub fn diffusers_names(weights: SharedWeights) -> SharedWeights {
    let has = |prefix: &str, name: &str| weights.shape(&format!("{prefix}{name}")).is_some();
    let first = "encoder.down.0.block.0.conv1.weight";
    let Some(prefix) = PREFIXES.into_iter().find(|prefix| has(prefix, first)) else { return weights };
    let renaming: Renaming =
        modules(|name| has(prefix, name)).into_iter().map(|[ours, theirs]| (theirs, ours)).collect();
    let mut places = BTreeMap::new();
    for tensor in weights.names() {
        let (Some(name), Some(shape)) = (tensor.strip_prefix(prefix), weights.shape(&tensor)) else {
            continue;
        };
        let name = renaming.apply(name).unwrap_or_else(|| name.to_string());
        let shape = match shape {
            &[outputs, inputs, 1, 1] if is_product(&name) => vec![outputs, inputs],
            _ => shape.to_vec(),
        };
        places.insert(name, Place { tensor, rows: None, shape });
    }
    Arc::new(View::new(weights, places))
}
