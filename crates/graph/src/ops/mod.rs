//! The ops: one file each, with the definition, the launches and the cases.

pub mod binary;
pub mod concat;
mod elementwise;
pub mod layer_norm;
pub mod matmul;
mod rows;
pub mod softmax;
pub mod permute;
pub mod repeat;
pub mod reshape;
pub mod slice;
mod strided;
pub mod unary;
pub(crate) mod units;

pub use binary::Binary;
pub use layer_norm::LayerNorm;
pub use matmul::Matmul;
pub use softmax::Softmax;
pub use concat::Concat;
pub use matmul::Matmul;
pub use permute::Permute;
pub use repeat::{Expand, Repeat, RepeatInterleave};
pub use reshape::{INFER, Reshape};
pub use slice::{Slice, SliceRange};
pub use unary::Unary;
