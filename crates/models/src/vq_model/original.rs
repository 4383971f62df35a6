//! The names that the paper's own code gives the weights (`taming/models/vqgan.py` of
//! <https://github.com/CompVis/taming-transformers>).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Quantizer;
use crate::autoencoder_kl::original::{is_product, modules};
use crate::weights::{Cut, Place, Renaming, SharedWeights, View};

/// What stands before all names: nothing, or what trainers and models of two stages put there.
const PREFIXES: [&str; 4] = ["", "state_dict.", "first_stage_model.", "state_dict.first_stage_model."];

/// Codebooks that are averages of what they stood for (van den Oord et al. 2017, appendix A.1,
/// <https://arxiv.org/abs/1711.00937>), as other code keeps them: `[1, codes, channels]` in
/// <https://github.com/lucidrains/vector-quantize-pytorch>, `[channels, codes]` in what follows DeepMind's.
const AVERAGES: [&str; 2] = ["quantize._codebook.embed", "quantize.embed"];

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
        let mut name = renaming.apply(name).unwrap_or_else(|| name.to_string());
        let is_average = AVERAGES.contains(&name.as_str());
        let (cut, shape) = match *shape {
            [outputs, inputs, 1, 1] if is_product(&name) => (Cut::Whole, vec![outputs, inputs]),
            [1, codes, channels] if is_average => (Cut::Whole, vec![codes, channels]),
            [channels, codes] if name == AVERAGES[1] => (Cut::Transposed, vec![codes, channels]),
            _ => (Cut::Whole, shape.to_vec()),
        };
        if is_average {
            name = Quantizer::Nearest.codebook().into();
        }
        places.insert(name, Place { tensor, cut, shape });
    }
    Arc::new(View::new(weights, places))
}
