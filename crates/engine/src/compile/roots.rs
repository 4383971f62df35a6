//! Values that are others' bytes: views, and states' new values that take over the states' own buffers.

use kiln_graph::Value;

use super::Compiler;

impl Compiler<'_> {
    pub(super) fn find_roots(&mut self) {
        self.root = (0..self.graph.values().len()).map(Value::at).collect();
        for node in self.graph.nodes() {
            if node.op.is_view()
                && node.epilogue.is_empty()
                && let ([input, ..], [output, ..]) = (&node.inputs[..], &node.outputs[..])
                && !self.constant[input.index()]
            {
                self.root[output.index()] = self.root[input.index()];
            }
        }
    }

    /// A state's new value takes over the state's own buffer where the op that makes it starts from it (a cache that is
    /// appended to) and nobody else reads the old content then or afterwards.
    pub(super) fn take_over_states(&mut self) {
        let graph = self.graph;
        let mut last_read = vec![0; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            for input in &node.inputs {
                last_read[self.root[input.index()].index()] = i;
            }
        }
        // Outputs are read at the end, and so are the values that become other states'.
        let read_last = graph.outputs().iter().map(|(_, value)| value);
        for value in read_last.chain(graph.updates().iter().map(|(_, value)| value)) {
            last_read[self.root[value.index()].index()] = usize::MAX;
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            for &(input, output) in node.op.starts_as() {
                let (Some(&old), Some(&new)) = (node.inputs.get(input), node.outputs.get(output)) else {
                    continue;
                };
                let state = self.root[old.index()];
                let reads = node.inputs.iter().filter(|input| self.root[input.index()] == state).count();
                if graph.updates().contains(&(state, new)) && last_read[state.index()] == i && reads == 1 {
                    // With the views of it.
                    self.root.iter_mut().filter(|root| **root == new).for_each(|root| *root = state);
                }
            }
        }
    }
}
