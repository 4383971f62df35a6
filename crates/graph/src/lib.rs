//! What to compute: tensors, ops with their definitions and kernels, graphs, passes and the memory plan.
//!
//! Nothing here names a graphics API. An op describes its GPU work as plain data ([`Launch`]) that an engine executes,
//! and carries its own definition ([`Op::reference`]) that the GPU is checked against.
#![deny(missing_docs)]

mod dtype;
mod epilogue;
mod graph;
mod interpret;
mod launch;
pub mod memory;
pub mod numerics;
mod op;
pub mod ops;
pub mod passes;
pub mod random;
pub mod range;
pub mod registry;
pub mod sampling;
mod split;
mod tensor;
mod tier;

pub use dtype::DType;
pub use epilogue::{Epilogue, Spread, Step};
pub use graph::{Builder, Graph, GraphError, Node, Origin, Value, ValueInfo};
pub use interpret::{ConstantFolder, Interpreter, WeightSource, interpret_node};
pub use kiln_shaders::{self as shaders, Unit};
pub use launch::{Binding, Dispatch, Field, Kernel, Launch, Pack, Params, Source, WriteParam};
pub use op::{Along, Independence, Io, Op, OpError, downcast};
pub use split::{launches_in_place_within, launches_within};
pub use tensor::{LengthError, Tensor, TensorDesc, strides};
pub use tier::{CoopKind, DeviceLimits, SubgroupSize, Tier};
