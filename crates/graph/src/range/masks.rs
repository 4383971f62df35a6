//! Where minus infinity is no fault: models write it, or large negative numbers, to hide a key from attention, and what
//! reads it gives it no share, be it -1e9 or what f16 makes of that.

use crate::ops::{
    ArgReduce, Binary, Cast, Compare, Concat, Expand, Permute, Reduce, Reduction, Repeat, RepeatInterleave,
    Reshape, ScaledDotProductAttention, Slice, Softmax, Where,
};
use crate::{Graph, Node, Op, Step, downcast};

/// For each value, whether it may hold minus infinity instead of a large negative number and nothing changes.
pub(super) fn masks(graph: &Graph) -> Vec<bool> {
    // Read by somebody, and by nobody who minds.
    let (mut read, mut minded) = (vec![false; graph.values().len()], vec![false; graph.values().len()]);
    let shown = graph.outputs().iter().map(|(_, value)| value);
    for value in shown.chain(graph.updates().iter().map(|(_, value)| value)) {
        minded[value.index()] = true;
    }
    for node in graph.nodes().iter().rev() {
        let first = node.outputs.first();
        let passes_on = first.is_some_and(|out| read[out.index()] && !minded[out.index()]);
        for (i, input) in node.inputs.iter().enumerate() {
            read[input.index()] = true;
            minded[input.index()] |= !tolerates(node, i, passes_on);
        }
    }
    read.iter().zip(&minded).map(|(read, minded)| *read && !minded).collect()
}

fn is<T: Op>(node: &Node) -> Option<&T> {
    downcast(node.op.as_ref())
}

/// Whether a node does not mind minus infinity as this input; `passes_on` says whether those who read its first output
/// do not mind it either.
fn tolerates(node: &Node, input: usize, passes_on: bool) -> bool {
    if !node.epilogue.is_empty() {
        // An addend keeps it through other sums alone.
        let sums =
            node.epilogue.steps.iter().all(|step| matches!(step, Step::Binary { function: Binary::Add, .. }));
        return passes_on && sums && (input >= node.own_inputs() || is::<Binary>(node) == Some(&Binary::Add));
    }
    if let Some(attention) = is::<ScaledDotProductAttention>(node) {
        return attention.mask && input == attention.layout.inputs();
    }
    if let Some(softmax) = is::<Softmax>(node) {
        return !softmax.log;
    }
    if let Some(reduce) = is::<Reduce>(node) {
        return reduce.reduction == Reduction::Max;
    }
    if let Some(reduce) = is::<ArgReduce>(node) {
        return !reduce.smallest;
    }
    if is::<Compare>(node).is_some() || is::<Binary>(node) == Some(&Binary::Max) {
        return true;
    }
    let moves = is::<Cast>(node).is_some()
        || is::<Concat>(node).is_some()
        || is::<Expand>(node).is_some()
        || is::<Permute>(node).is_some()
        || is::<Repeat>(node).is_some()
        || is::<RepeatInterleave>(node).is_some()
        || is::<Reshape>(node).is_some()
        || is::<Slice>(node).is_some()
        || is::<Where>(node).is_some();
    passes_on && (moves || is::<Binary>(node) == Some(&Binary::Add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::AttentionOptions;
    use crate::{Builder, DType, GraphError, Value};

    /// Whether a mask may be minus infinity where a graph uses it like this.
    fn may_be_infinite(build: impl Fn(&mut Builder, Value) -> Result<Value, GraphError>) -> bool {
        let mut b = Builder::new();
        let mask = b.input("mask", [4, 4], DType::F32).unwrap();
        let y = build(&mut b, mask).unwrap();
        b.output("y", y).unwrap();
        let graph = b.finish();
        masks(&graph)[mask.index()]
    }

    #[test]
    fn masks_of_attention_and_addends_of_softmax_may_be_infinite() {
        assert!(may_be_infinite(|b, mask| {
            let x = b.input("x", [1, 4, 8], DType::F32)?;
            let options = AttentionOptions { mask: Some(mask), ..AttentionOptions::heads(2) };
            b.scaled_dot_product_attention(x, x, x, &options)
        }));
        assert!(may_be_infinite(|b, mask| {
            let scores = b.input("scores", [2, 4, 4], DType::F32)?;
            let mask = b.reshape(mask, [1, 4, 4])?;
            let sum = b.add(scores, mask)?;
            b.softmax(sum, -1)
        }));
    }

    #[test]
    fn what_is_multiplied_or_shown_may_not() {
        assert!(!may_be_infinite(|b, mask| {
            let sum = b.mul(mask, mask)?;
            b.softmax(sum, -1)
        }));
        assert!(!may_be_infinite(|_, mask| Ok(mask)));
        assert!(!may_be_infinite(|b, mask| {
            let shown = b.softmax(mask, -1)?;
            b.output("mask", mask)?;
            Ok(shown)
        }));
        assert!(!may_be_infinite(|b, mask| b.log_softmax(mask, -1)));
    }
}
