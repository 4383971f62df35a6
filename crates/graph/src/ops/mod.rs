//! The ops: one file each, with the definition, the launches and the cases.

pub mod binary;
mod elementwise;
pub mod matmul;
pub mod unary;
pub(crate) mod units;

pub use binary::Binary;
pub use matmul::Matmul;
pub use unary::Unary;
