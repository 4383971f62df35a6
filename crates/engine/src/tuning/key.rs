//! What a choice depends on, as text.

use kiln_graph::random::fnv1a64;
use kiln_graph::{Io, Op};

/// Bytes of a key that are kept readable.
const MAX_KEY: usize = 400;

/// The key of an op on these inputs. Attributes that run on (a table, a mask) are cut and told apart by a hash.
pub(crate) fn key(op: &dyn Op, io: &Io) -> String {
    let inputs: Vec<String> = io
        .inputs
        .iter()
        .enumerate()
        .map(|(i, desc)| if io.is_constant(i) { format!("constant {desc}") } else { desc.to_string() })
        .collect();
    let mut key = format!("{} {} of {}", op.name(), op.attributes(), inputs.join(", "));
    if !io.epilogue.is_empty() {
        key += &format!(", then {:?}", io.epilogue.steps);
    }
    if key.len() > MAX_KEY {
        let hash = fnv1a64(&key);
        let end = (0..=MAX_KEY).rev().find(|&end| key.is_char_boundary(end)).unwrap_or(0);
        key.truncate(end);
        key += &format!(" ... {hash:016x}");
    }
    key
}
