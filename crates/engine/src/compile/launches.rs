//! What runs: the nodes whose results are read, and the launch chosen for each.

use kiln_graph::{Io, Launch, Node, OpError, launches_in_place_within};

use super::{Compiler, Step};
use crate::Error;
#[cfg(not(target_arch = "wasm32"))]
use crate::Tuning;
#[cfg(not(target_arch = "wasm32"))]
use crate::tuning::{Budget, tune};
use crate::tuning::{Offer, key};

impl<'a> Compiler<'a> {
    /// Nodes that run on the device, with a launch each. Tries launches out where that is wanted.
    pub(super) async fn choose_launches(&self) -> Result<Vec<Step<'a>>, Error> {
        let nodes = self.live_nodes().into_iter();
        let offers: Vec<Offer> = nodes.map(|node| self.offer(node)).collect::<Result<_, Error>>()?;
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(Tuning::Budget(limit)) = self.gpu.tuning(self.options) {
            let start = std::time::Instant::now();
            tune(self.gpu, &offers, Budget::new(limit, &|| start.elapsed())).await?;
        }
        let steps = offers.into_iter().map(|offer| {
            let (chosen, offered) = (self.choose(&offer), offer.names());
            let launch = offer.launches.into_iter().nth(chosen).unwrap_or_default();
            Step { node: offer.node, launch, offered }
        });
        Ok(steps.collect())
    }

    /// Nodes that run on the device. Those whose results nobody reads are left out.
    pub(super) fn live_nodes(&self) -> Vec<&'a Node> {
        let graph = self.graph;
        let mut wanted = vec![false; graph.values().len()];
        for (_, value) in graph.outputs() {
            wanted[value.index()] = true;
        }
        for (_, value) in graph.updates() {
            wanted[value.index()] = true;
        }
        let mut nodes = Vec::new();
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
            nodes.push(node);
        }
        nodes.reverse();
        nodes
    }

    /// A node with the launches that it may take.
    fn offer(&self, node: &'a Node) -> Result<Offer<'a>, Error> {
        let (inputs, outputs) = self.graph.node_descs(node);
        let constant: Vec<bool> = node.inputs.iter().map(|input| self.constant[input.index()]).collect();
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &constant, epilogue: &node.epilogue };
        let launches = if outputs.iter().all(kiln_graph::TensorDesc::is_empty) {
            vec![Launch::default()]
        } else if node.outputs.iter().any(|out| self.in_place.contains(out)) {
            launches_in_place_within(&*node.op, &io, self.gpu.tier())
        } else {
            kiln_graph::launches_within(&*node.op, &io, self.gpu.tier())
                .map_err(|error| Error::op(&node.path, error))?
        };
        if launches.is_empty() {
            let error = OpError::new(node.op.name(), &inputs, "has no kernel for this device");
            return Err(Error::op(&node.path, error));
        }
        let key = if launches.len() > 1 { key(node.op.as_ref(), &io) } else { String::new() };
        let bytes = io.inputs.iter().chain(io.outputs).map(|desc| desc.bytes() as u64).sum();
        let flops = node.op.flops(&io);
        Ok(Offer { node, key, inputs, constant, launches, flops, bytes })
    }

    /// The launch that a node takes, by its index: the one asked for, or the one measured as the fastest, or the best
    /// guess.
    fn choose(&self, offer: &Offer) -> usize {
        let asked = self.options.launch.as_ref();
        let measured = || {
            self.gpu.tuning(self.options)?;
            self.gpu.choices.entry(&offer.key)?.fastest(&offer.names())
        };
        match asked {
            Some(name) => offer.launches.iter().position(|launch| launch.name == *name).unwrap_or(0),
            None if offer.launches.len() > 1 => measured().unwrap_or(0),
            None => 0,
        }
    }
}
