//! What runs: the nodes whose results are read, and the launch chosen for each.

use kiln_graph::{Io, Launch, Node, OpError};

use super::{Compiler, Step};
use crate::Error;

impl<'a> Compiler<'a> {
    /// Nodes that run on the device, with a launch each. Nodes whose results nobody reads are left out.
    pub(super) fn choose_launches(&self) -> Result<Vec<Step<'a>>, Error> {
        let graph = self.graph;
        let mut wanted = vec![false; graph.values().len()];
        for (_, value) in graph.outputs() {
            wanted[value.index()] = true;
        }
        for (_, value) in graph.updates() {
            wanted[value.index()] = true;
        }
        let mut steps = Vec::new();
        for node in graph.nodes().iter().rev() {
            let live = node.outputs.iter().any(|out| wanted[out.index()] && !self.constant[out.index()]);
            if !live {
                continue;
            }
            for input in &node.inputs {
                wanted[input.index()] = true;
            }
            if node.op.is_view() && node.outputs.first().is_some_and(|out| self.root[out.index()] != *out) {
                continue;
            }
            steps.push(Step { node, launch: self.choose(node)? });
        }
        steps.reverse();
        Ok(steps)
    }

    fn choose(&self, node: &Node) -> Result<Launch, Error> {
        let (inputs, outputs) = self.graph.node_descs(node);
        if outputs.iter().all(kiln_graph::TensorDesc::is_empty) {
            return Ok(Launch::default());
        }
        let constant: Vec<bool> = node.inputs.iter().map(|input| self.constant[input.index()]).collect();
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &constant, epilogue: &node.epilogue };
        let launches = kiln_graph::launches_within(&*node.op, &io, self.gpu.tier())
            .map_err(|error| Error::op(&node.path, error))?;
        let named =
            self.options.launch.as_ref().and_then(|name| launches.iter().position(|l| l.name == *name));
        launches.into_iter().nth(named.unwrap_or(0)).ok_or_else(|| {
            Error::op(&node.path, OpError::new(node.op.name(), &inputs, "has no kernel for this device"))
        })
    }
}
