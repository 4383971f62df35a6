//! Nearest-neighbour upsampling by two, folded into the addressing of the convolution behind it.

use crate::ops::{Conv2d, Interpolate, InterpolateMode};
use crate::passes::Rewriter;
use crate::{Graph, GraphError, Origin, downcast};

/// A convolution that alone reads an image made twice as large by repeating pixels reads the small image instead.
pub fn fold_upsampling(graph: Graph) -> Result<Graph, GraphError> {
    let uses = graph.uses();
    let mut rewriter = Rewriter::new(graph.clone());
    for node in graph.nodes() {
        let Some(&conv) = downcast::<Conv2d>(node.op.as_ref()) else { continue };
        let [large, weight] = node.inputs[..] else { continue };
        let Origin::Node { node: producer, .. } = graph.info(large).origin else { continue };
        let upsampling = &graph.nodes()[producer];
        let Some(how) = downcast::<Interpolate>(upsampling.op.as_ref()) else { continue };
        let small = upsampling.inputs[0];
        let (from, to) = (&graph.desc(small).shape, &graph.desc(large).shape);
        let doubled = to[1] == 2 * from[1] && to[2] == 2 * from[2];
        let nearest = matches!(how.mode, InterpolateMode::Nearest | InterpolateMode::NearestExact);
        let alone = uses[large.index()] == 1 && upsampling.epilogue.is_empty() && node.epilogue.is_empty();
        if !(nearest && doubled && alone && conv.upsample == 1) {
            continue;
        }
        let result = rewriter.op(Conv2d { upsample: 2, ..conv }, &[small, weight], &node.path)?;
        rewriter.fused(result, [&upsampling.path]);
        rewriter.replace(node.outputs[0], result);
    }
    Ok(rewriter.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{run, worst_difference};
    use crate::{Builder, DType};

    fn graph(mode: InterpolateMode, also_read: bool) -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", [1, 3, 4, 4], DType::F32).unwrap();
        let w = b.weight("w", [8, 4, 3, 3]).unwrap();
        let large = b.interpolate(x, Interpolate::scale_factor(mode, [2.0, 2.0])).unwrap();
        let options = Conv2d { padding: 1.into(), ..Conv2d::default() };
        let y = b.conv2d(large, w, None, options).unwrap();
        b.output("y", y).unwrap();
        if also_read {
            b.output("large", large).unwrap();
        }
        b.finish()
    }

    fn folded(graph: Graph) -> bool {
        let before = run(&graph);
        let after = fold_upsampling(graph).unwrap();
        assert!(worst_difference(&before, &run(&after)) < 1e-6);
        after.nodes().len() == 1
    }

    #[test]
    fn nearest_upsampling_folds() {
        assert!(folded(graph(InterpolateMode::Nearest, false)));
    }

    #[test]
    fn other_kinds_and_images_that_others_read_stay() {
        assert!(!folded(graph(InterpolateMode::Bilinear, false)));
        assert!(!folded(graph(InterpolateMode::Nearest, true)));
    }
}
