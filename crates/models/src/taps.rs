//! Hidden layers as outputs.

use std::collections::BTreeSet;

use kiln_graph::{Builder, GraphError, Value};

/// Which hidden layers a graph gives as outputs `mid.<name>`. Nothing fuses across them.
#[derive(Clone, Debug, Default)]
pub struct Taps(BTreeSet<String>);

impl Taps {
    /// No hidden layer.
    pub fn none() -> Self {
        Self::default()
    }

    /// These, by their names without `mid.`.
    pub fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Whether this one is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Makes `value` an output, where it is wanted.
    pub fn tap(&self, b: &mut Builder, name: &str, value: Value) -> Result<(), GraphError> {
        if self.wants(name) { b.output(format!("mid.{name}"), value) } else { Ok(()) }
    }
}
