//! Attention roll-out: "Quantifying Attention Flow in Transformers" (Abnar and Zuidema 2020,
//! <https://arxiv.org/abs/2005.00928>).

use kiln_graph::Tensor;

/// How much of each patch reaches the class token, or on average all patches where there is none.
///
/// `layers` are attention weights `[batch, heads, tokens, tokens]`, first layer first. Each layer's heads are averaged
/// and mixed half and half with the identity, which stands for the residual path; the roll-out is their product.
/// `prefix` tokens precede the patches.
pub fn attention_rollout(layers: &[Tensor], batch: usize, prefix: usize, class_token: bool) -> Vec<f64> {
    let Some(&[_, heads, tokens, _]) = layers.first().map(Tensor::shape) else { return Vec::new() };
    // One row of the product suffices, carried from the last layer to the first.
    let mut row = vec![0.0; tokens];
    if class_token {
        row.iter_mut().take(1).for_each(|v| *v = 1.0);
    } else {
        let patches = tokens.saturating_sub(prefix).max(1) as f64;
        row.iter_mut().skip(prefix).for_each(|v| *v = 1.0 / patches);
    }
    for layer in layers.iter().rev() {
        let weights = layer.to_f32();
        let own = weights.chunks_exact((heads * tokens * tokens).max(1)).nth(batch).unwrap_or_default();
        let mut next: Vec<f64> = row.iter().map(|v| 0.5 * v).collect();
        for head in own.chunks_exact((tokens * tokens).max(1)) {
            for (&share, to) in row.iter().zip(head.chunks_exact(tokens.max(1))) {
                let share = 0.5 * share / heads as f64;
                next.iter_mut().zip(to).for_each(|(sum, &weight)| *sum += share * f64::from(weight));
            }
        }
        row = next;
    }
    row.split_off(prefix.min(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_product_of_averaged_layers() {
        // Two heads over three tokens; the class token attends to token 1 by one head and to token 2 by the other.
        let rows = |first: [f32; 3]| [first.as_slice(), &[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0]].concat();
        let layer = [rows([0.0, 1.0, 0.0]), rows([0.0, 0.0, 1.0])].concat();
        let layer = Tensor::f32([1, 2, 3, 3], layer).unwrap();
        assert_eq!(attention_rollout(std::slice::from_ref(&layer), 0, 1, true), [0.25, 0.25]);
        // Half stays with the class token in each layer: 1/4 after two.
        assert_eq!(attention_rollout(&[layer.clone(), layer], 0, 1, true), [0.375, 0.375]);
        assert!(attention_rollout(&[], 0, 1, true).is_empty());
    }
}
