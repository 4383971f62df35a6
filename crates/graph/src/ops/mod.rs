//! The ops: one file each, with the definition, the launches and the cases.

pub mod binary;
mod elementwise;
pub mod layer_norm;
pub mod matmul;
mod rows;
pub mod softmax;
pub mod unary;
pub(crate) mod units;

pub use binary::Binary;
pub use layer_norm::LayerNorm;
pub use matmul::Matmul;
pub use softmax::Softmax;
pub use unary::Unary;
