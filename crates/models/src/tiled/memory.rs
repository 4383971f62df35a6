//! What a graph needs on a device, before it is compiled.

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::{Graph, GraphError, Tier, memory, passes};

/// About how many bytes a graph needs on a device: weights, activations and what is read back. What ops need for
/// themselves is left out.
pub(crate) fn estimate(graph: &Graph, precision: Precision, tier: &Tier) -> Result<u64, GraphError> {
    let read_back: usize = graph.outputs().iter().map(|&(_, value)| graph.desc(value).bytes()).sum();
    let graph = match precision {
        Precision::F32 => graph.clone(),
        Precision::F16 => passes::to_f16(graph, &BTreeSet::new())?,
    };
    let graph = passes::optimise(graph)?;
    let activations = memory::place(&memory::needs(&graph, tier)).total();
    Ok(memory::constant_bytes(&graph) + activations + read_back as u64)
}
