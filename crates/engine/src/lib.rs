//! How a GPU computes a graph: the only crate that names wgpu.
//!
//! [`Gpu`] opens a device and decides its [`Tier`]. [`Session`] compiles a graph for it (passes, memory plan, packed
//! weights, pipelines, bind groups) and runs it. The core is async; native targets have `*_blocking` wrappers.
#![deny(missing_docs)]

mod clock;
mod compile;
mod error;
mod faults;
mod gpu;
mod options;
mod pipeline;
mod profile;
mod range;
mod reflect;
mod run;
mod session;
mod snapshot;
pub mod suite;
mod tuning;

pub use clock::CompileTimes;
pub use error::Error;
pub use gpu::{AdapterReport, Gpu};
pub use kiln_graph::Tier;
pub use options::{Checks, CompileOptions, GpuOptions, Part, Precision, Tuning};
pub use pipeline::validate;
pub use profile::{Profile, ProfileRow};
pub use reflect::{BindingKind, Reflection, reflect};
pub use session::{Cancel, MemoryReport, Session};
pub use snapshot::Snapshot;
#[cfg(not(target_arch = "wasm32"))]
pub use tuning::FolderStorage;
pub use tuning::Storage;
pub use wgpu;
