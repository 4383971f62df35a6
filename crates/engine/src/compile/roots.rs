//! Values that are others' bytes: views, and states' new values that take over the states' own buffers.

use kiln_graph::{Io, Node, Value, launches_in_place_within};

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

    /// An output takes over its input's memory where nobody reads that afterwards and the op can work in place.
    pub(super) fn take_over_inputs(&mut self) {
        let nodes = self.live_nodes();
        let mut last_read = vec![0; self.root.len()];
        for (i, node) in nodes.iter().enumerate() {
            for input in &node.inputs {
                last_read[self.root[input.index()].index()] = i;
            }
        }
        let kept = self.graph.outputs().iter().map(|(_, value)| value);
        let kept = kept.chain(self.graph.updates().iter().map(|(_, value)| value));
        let states: Vec<Value> = self.graph.states().map(|(_, value)| value).collect();
        for value in kept.chain(&states) {
            last_read[self.root[value.index()].index()] = usize::MAX;
        }
        for (i, node) in nodes.into_iter().enumerate() {
            let (&[input, ..], &[output]) = (&node.inputs[..], &node.outputs[..]) else { continue };
            let memory = self.root[input.index()];
            let reads = node.inputs.iter().filter(|input| self.root[input.index()] == memory).count();
            let free = last_read[memory.index()] == i && reads == 1 && !self.constant[input.index()];
            if free && self.root[output.index()] == output && self.works_in_place(node) {
                // With the views of it.
                self.root.iter_mut().filter(|root| **root == output).for_each(|root| *root = memory);
                last_read[memory.index()] = last_read[output.index()];
                self.in_place.insert(output);
            }
        }
    }

    /// Whether the op has a launch in place, of the name that is asked for where one is.
    fn works_in_place(&self, node: &Node) -> bool {
        let (inputs, outputs) = self.graph.node_descs(node);
        if outputs.iter().all(kiln_graph::TensorDesc::is_empty) {
            return false;
        }
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &[], epilogue: &node.epilogue };
        let launches = launches_in_place_within(&*node.op, &io, self.gpu.tier());
        let asked = self.options.launch.as_ref();
        launches.iter().any(|launch| asked.is_none_or(|name| launch.name == *name))
    }
}
