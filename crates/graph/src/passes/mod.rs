//! Graph to graph: fusing, folding and changing precision. Each pass keeps the graph's inputs, outputs, weights, states
//! and what they mean; only [`select_outputs`] leaves some out.

mod batch_norm;
mod epilogue;
mod precision;
mod qkv;
mod rewrite;
mod select;
#[cfg(test)]
mod testing;
mod upsample;

use crate::{Graph, GraphError};

pub use batch_norm::fold_batch_norm;
pub use epilogue::fuse_epilogues;
pub use precision::to_f16;
pub use qkv::fuse_qkv;
pub use rewrite::Rewriter;
pub use select::select_outputs;
pub use upsample::fold_upsampling;

/// The passes that compiling runs, in the order in which they help each other.
pub fn optimise(graph: Graph) -> Result<Graph, GraphError> {
    let graph = fold_batch_norm(graph)?;
    let graph = fold_upsampling(graph)?;
    let graph = fuse_qkv(graph)?;
    fuse_epilogues(graph)
}
