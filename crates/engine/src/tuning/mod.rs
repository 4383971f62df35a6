//! The tuner: where an op offers several launches, which one a device runs fastest.
//!
//! What was measured is kept by key (op, attributes, shapes, types, constness, epilogue) in a file a device, driver and
//! version of Kiln; tables in the same form can be shipped. Trials run one node at a time on made-up inputs. They need a
//! clock, so that browsers only look choices up.
#![cfg_attr(target_arch = "wasm32", allow(dead_code))]

mod choices;
mod key;
mod storage;
mod table;
#[cfg(not(target_arch = "wasm32"))]
mod trial;
#[cfg(not(target_arch = "wasm32"))]
mod tuner;

use kiln_graph::{Launch, Node, TensorDesc};

pub(crate) use choices::Choices;
pub(crate) use key::key;
#[cfg(not(target_arch = "wasm32"))]
pub use storage::FolderStorage;
pub use storage::Storage;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use tuner::{Budget, tune};

/// A node with the launches that it may take, best guess first.
pub(crate) struct Offer<'a> {
    pub node: &'a Node,
    /// Where choices for it are kept.
    pub key: String,
    pub inputs: Vec<TensorDesc>,
    pub constant: Vec<bool>,
    pub launches: Vec<Launch>,
    pub flops: u64,
    /// Bytes of inputs and outputs.
    pub bytes: u64,
}

impl Offer<'_> {
    /// The launches' names, best guess first.
    pub fn names(&self) -> Vec<&'static str> {
        self.launches.iter().map(|launch| launch.name).collect()
    }
}
