//! What the passes' tests share: a graph must mean the same before and after.

use std::collections::HashMap;

use crate::random::SplitMix64;
use crate::{Graph, Interpreter, Tensor};

fn random(name: &str, shape: &[usize]) -> Tensor {
    let sequence = SplitMix64::named(name);
    let len: usize = shape.iter().product();
    // Positive for variances; of mixed sign for everything else.
    let offset = if name.ends_with("variance") { 1.5 } else { 0.0 };
    Tensor::f32(shape, (0..len).map(|i| sequence.affine(i as u64, 1.0, offset)).collect()).unwrap()
}

/// Runs a graph on inputs and weights that are random but depend on their names alone.
pub(super) fn run(graph: &Graph) -> Vec<Tensor> {
    let weights: HashMap<String, Tensor> =
        graph.weights().map(|(name, v)| (name.to_string(), random(name, &graph.desc(v).shape))).collect();
    let inputs: Vec<(String, Tensor)> =
        graph.inputs().map(|(name, v)| (name.to_string(), random(name, &graph.desc(v).shape))).collect();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    Interpreter::new(graph.clone(), &weights).unwrap().run(&inputs).unwrap()
}

/// Largest difference of an element of the outputs.
pub(super) fn worst_difference(a: &[Tensor], b: &[Tensor]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference = |(a, b): (&Tensor, &Tensor)| {
        assert_eq!(a.shape(), b.shape());
        a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    a.iter().zip(b).map(difference).fold(0.0, f64::max)
}
