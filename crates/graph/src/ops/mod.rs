//! The ops: one file each, with the definition, the launches and the cases.

pub mod attention;
pub mod binary;
pub mod concat;
mod elementwise;
pub mod interpolate;
pub mod kv_cache;
pub mod layer_norm;
pub mod matmul;
pub mod permute;
pub mod repeat;
pub(crate) mod resample;
pub mod reshape;
mod rows;
pub(crate) mod slabs;
pub mod slice;
pub mod softmax;
pub(crate) mod spatial;
mod strided;
pub mod unary;
pub(crate) mod units;

pub use attention::{AttentionLayout, AttentionOptions, ScaledDotProductAttention};
pub use binary::Binary;
pub use concat::Concat;
pub use interpolate::{Interpolate, InterpolateMode, InterpolateTo};
pub use kv_cache::CacheAppend;
pub use layer_norm::LayerNorm;
pub use matmul::Matmul;
pub use permute::Permute;
pub use repeat::{Expand, Repeat, RepeatInterleave};
pub use reshape::{INFER, Reshape};
pub use slice::{Slice, SliceRange};
pub use softmax::Softmax;
pub use unary::Unary;
