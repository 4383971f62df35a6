//! One node on made-up inputs: what its launches compute, and how long they take.

use std::collections::HashMap;
use std::pin::Pin;

use kiln_graph::numerics::{Gate, compare};
use kiln_graph::random::SplitMix64;
use kiln_graph::{Builder, Graph, LengthError, Tensor, TensorDesc};

use super::Offer;
use crate::{CompileOptions, Error, Gpu, Session};

/// Runs that are timed at most, after one that warms up; the fastest counts.
pub(super) const RUNS: usize = 5;
/// Seconds after which a launch is not timed again.
const PATIENCE: f64 = 0.05;

/// A node as a graph of its own.
pub(super) struct Trial<'a> {
    gpu: &'a Gpu,
    graph: Graph,
    inputs: Vec<(String, Tensor)>,
}

/// Floats in [-1, 1), repeated every so many elements (a prime, so that no two rows are alike): making them takes no
/// time beside the trial. Integers are zeros, which are indices of every table and lengths of every list.
fn fill(desc: &TensorDesc, name: &str) -> Result<Tensor, LengthError> {
    const PERIOD: usize = 65_521;
    if !desc.dtype.is_float() {
        return Ok(Tensor::zeros(desc));
    }
    let sequence = SplitMix64::named(name);
    let period: Vec<f32> = (0..desc.len().min(PERIOD) as u64).map(|i| sequence.affine(i, 1.0, 0.0)).collect();
    let period = Tensor::f32([period.len()], period)?.cast(desc.dtype);
    let bytes: Vec<u8> = period.as_bytes().iter().copied().cycle().take(desc.bytes()).collect();
    Tensor::from_bytes(desc, &bytes)
}

impl<'a> Trial<'a> {
    pub fn new(gpu: &'a Gpu, offer: &Offer) -> Result<Self, Error> {
        let node = offer.node;
        let mut builder = Builder::new();
        let (mut values, mut inputs) = (Vec::new(), Vec::new());
        for (i, desc) in offer.inputs.iter().enumerate() {
            let name = format!("input{i}");
            let tensor = fill(desc, &name).map_err(|error| Error::op(&node.path, error.into()))?;
            if offer.constant.get(i) == Some(&true) {
                values.push(builder.constant(tensor));
            } else {
                values.push(builder.input(&name, desc.shape.clone(), desc.dtype)?);
                inputs.push((name, tensor));
            }
        }
        let outputs = builder.fused_op(node.op.clone(), node.epilogue.clone(), &values)?;
        for (i, output) in outputs.iter().enumerate() {
            builder.output(format!("output{i}"), *output)?;
        }
        Ok(Self { gpu, graph: builder.finish(), inputs })
    }

    /// What a launch computes, and the seconds it takes.
    pub async fn run(&self, launch: &str) -> Result<(Vec<Tensor>, f64), Error> {
        let options =
            CompileOptions { fuse: false, launch: Some(launch.to_string()), ..CompileOptions::default() };
        let weights = HashMap::new();
        let mut quiet = |_, _| {};
        // Compiling tunes, and tuning compiles: the future has to be of a known size somewhere.
        let compiled: Pin<Box<dyn Future<Output = Result<Session, Error>> + '_>> =
            Box::pin(Session::compile(self.gpu, &self.graph, &weights, &options, &mut quiet));
        let session = compiled.await?;
        let inputs: Vec<(&str, Tensor)> =
            self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        let outputs = session.run(&inputs).await?;
        let (mut fastest, mut total) = (f64::INFINITY, 0.0);
        for _ in 0..RUNS {
            let seconds = session.time().await?.seconds();
            fastest = fastest.min(seconds);
            total += seconds;
            if total > PATIENCE {
                break;
            }
        }
        Ok((outputs, fastest))
    }
}

/// Whether two launches computed the same, but for the order of sums: the default gates, their absolute tolerance for
/// outputs about 1. Larger outputs have larger sums behind them.
pub(super) fn agree(expected: &[Tensor], actual: &[Tensor]) -> bool {
    let same = |(expected, actual): (&Tensor, &Tensor)| {
        let gate = match Gate::default_for(expected.dtype()) {
            Gate::Exact => Gate::Exact,
            Gate::Close { nmse, atol, rtol } => {
                let largest =
                    expected.to_f32().iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
                Gate::Close { nmse, atol: atol * f64::from(largest), rtol }
            }
        };
        compare(expected, actual, gate, None).passed
    };
    expected.len() == actual.len() && expected.iter().zip(actual).all(same)
}

/// Whether every float is finite, so that comparing with it says something.
pub(super) fn is_finite(outputs: &[Tensor]) -> bool {
    outputs
        .iter()
        .filter(|tensor| tensor.dtype().is_float())
        .all(|tensor| tensor.to_f32().iter().all(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::DType;

    fn f32s(values: &[f32]) -> Vec<Tensor> {
        vec![Tensor::f32([values.len()], values.to_vec()).unwrap()]
    }

    #[test]
    fn sums_in_another_order_agree_and_other_numbers_do_not() {
        assert!(agree(&f32s(&[1000.0, 1e-3]), &f32s(&[1000.0001, 1.1e-3])));
        assert!(!agree(&f32s(&[1000.0, 1e-3]), &f32s(&[1001.0, 1e-3])));
        assert!(!agree(&f32s(&[1.0, 1e-3]), &f32s(&[1.0, 1.1e-3])));
        assert!(!agree(&f32s(&[1.0, 2.0]), &f32s(&[1.0, f32::NAN])));
        assert!(!agree(&f32s(&[1.0]), &[]));
        assert!(is_finite(&f32s(&[1.0])) && !is_finite(&f32s(&[1.0, f32::INFINITY])));
    }

    #[test]
    fn inputs_are_random_floats_and_valid_indices() {
        let floats = fill(&TensorDesc::new([3, 65_521], DType::F16), "x").unwrap().to_f64();
        assert!(floats.iter().all(|value| value.abs() <= 1.0) && floats[0] != floats[1]);
        assert_eq!(floats[..65_521], floats[65_521..2 * 65_521]);
        let indices = fill(&TensorDesc::new([5], DType::U32), "x").unwrap().to_f64();
        assert_eq!(indices, [0.0; 5]);
        assert!(fill(&TensorDesc::new([0, 3], DType::F32), "x").unwrap().is_empty());
    }
}
