//! `sdpa`: `torch.nn.functional.scaled_dot_product_attention`.

use kiln_graph::ops::AttentionOptions;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (q, k, v) = (case.heads_first("q")?, case.heads_first("k")?, case.heads_first("v")?);
    let heads = |value| case.builder.shape(value).get(2).copied().unwrap_or(0);
    let (heads, kv_heads) = (heads(q), heads(k));
    let grouped = case.opt_bool("enable_gqa")?.unwrap_or(false);
    if heads != kv_heads && !grouped {
        return Err(VerifyError::Unsupported("fewer key heads than query heads without enable_gqa".into()));
    }
    // A causal case says so by flag or by kind.
    let named = case.opt_str("kind")?.is_some_and(|kind| kind.starts_with("is_causal"));
    let options = AttentionOptions {
        kv_heads: Some(kv_heads),
        scale: case.opt_float("scale")?.map(|scale| scale as f32),
        causal: case.opt_bool("is_causal")?.unwrap_or(named),
        mask: if case.has("mask") { Some(case.input("mask")?) } else { None },
        ..AttentionOptions::heads(heads)
    };
    let y = case.builder.scaled_dot_product_attention(q, k, v, &options)?;
    case.heads_first_output("y", y)
}
