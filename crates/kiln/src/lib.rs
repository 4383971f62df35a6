//! GPU inference on wgpu with hand-written WGSL kernels.
#![deny(missing_docs)]

pub use kiln_engine as engine;
pub use kiln_graph as graph;
pub use kiln_models as models;
