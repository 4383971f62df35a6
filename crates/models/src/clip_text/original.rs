//! The names that OpenCLIP (<https://github.com/mlfoundations/open_clip>) gives a text encoder's weights, as Stable Diffusion
//! 2.x has them in its own checkpoints.

/// The modules of a layer: transformers' names and OpenCLIP's.
const LAYER: [[&str; 2]; 5] = [
    ["layer_norm1", "ln_1"],
    ["layer_norm2", "ln_2"],
    ["mlp.fc1", "mlp.c_fc"],
    ["mlp.fc2", "mlp.c_proj"],
    ["self_attn.out_proj", "attn.out_proj"],
];

/// Queries, keys and values, in the order in which one matrix holds them all.
const PRODUCTS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

/// Stable Diffusion 2.x looks at the last layer but one, so that of 24 layers transformers' files hold 23.
const LAYERS: usize = 23;

/// What one of OpenCLIP's weights is to transformers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A weight of this name.
    Weight(String),
    /// Three weights, one below the other.
    Three([String; 3]),
    /// Nothing that an image depends on.
    Nothing,
    /// It is not known.
    Unknown,
}

/// What a weight is.
pub(crate) fn meaning(name: &str) -> Meaning {
    let known = |name: &str| Meaning::Weight(format!("text_model.{name}"));
    match name {
        "token_embedding.weight" => return known("embeddings.token_embedding.weight"),
        "positional_embedding" => return known("embeddings.position_embedding.weight"),
        "ln_final.weight" => return known("final_layer_norm.weight"),
        "ln_final.bias" => return known("final_layer_norm.bias"),
        "text_projection" | "logit_scale" | "attn_mask" => return Meaning::Nothing,
        _ => {}
    }
    let layer = |name: &str| {
        let (layer, rest) = name.strip_prefix("transformer.resblocks.")?.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        if layer >= LAYERS {
            return Some(Meaning::Nothing);
        }
        let path = format!("text_model.encoder.layers.{layer}");
        if let Some(kind) =
            rest.strip_prefix("attn.in_proj_").filter(|kind| ["weight", "bias"].contains(kind))
        {
            return Some(Meaning::Three(
                PRODUCTS.map(|product| format!("{path}.self_attn.{product}.{kind}")),
            ));
        }
        let (module, kind) = rest.rsplit_once('.')?;
        let [ours, _] = LAYER.iter().find(|[_, theirs]| *theirs == module)?;
        Some(Meaning::Weight(format!("{path}.{ours}.{kind}")))
    };
    layer(name).unwrap_or(Meaning::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_mean_what_they_are_to_transformers() {
        let weight = |name: &str| Meaning::Weight(format!("text_model.{name}"));
        let layer = "transformer.resblocks.22";
        for (name, wanted) in [
            ("positional_embedding".to_string(), weight("embeddings.position_embedding.weight")),
            (format!("{layer}.mlp.c_fc.weight"), weight("encoder.layers.22.mlp.fc1.weight")),
            (format!("{layer}.attn.out_proj.bias"), weight("encoder.layers.22.self_attn.out_proj.bias")),
            ("transformer.resblocks.23.ln_1.weight".into(), Meaning::Nothing),
            ("logit_scale".into(), Meaning::Nothing),
            (format!("{layer}.ln_3.weight"), Meaning::Unknown),
            (format!("{layer}.attn.in_proj_x"), Meaning::Unknown),
            ("transformer.resblocks.x.ln_1.weight".into(), Meaning::Unknown),
        ] {
            assert_eq!(meaning(&name), wanted, "{name}");
        }
        let three = ["q", "k", "v"].map(|x| format!("text_model.encoder.layers.22.self_attn.{x}_proj.bias"));
        assert_eq!(meaning(&format!("{layer}.attn.in_proj_bias")), Meaning::Three(three));
    }
}
