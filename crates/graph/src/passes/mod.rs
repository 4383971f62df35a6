//! Graph to graph: fusing, folding and changing precision. Each pass keeps the graph's inputs, outputs, weights, states
//! and what they mean.

mod epilogue;
mod precision;
mod rewrite;

use crate::{Graph, GraphError};

pub use epilogue::fuse_epilogues;
pub use precision::to_f16;
pub use rewrite::Rewriter;

/// The passes that compiling runs, in the order in which they help each other.
pub fn optimise(graph: Graph) -> Result<Graph, GraphError> {
    fuse_epilogues(graph)
}
