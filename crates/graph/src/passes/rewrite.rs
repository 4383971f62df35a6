//! The tool of passes: adds nodes, replaces values, and puts the graph back in order.

use std::sync::Arc;

use crate::{Epilogue, Graph, GraphError, Node, Op, Origin, Tensor, TensorDesc, Value, ValueInfo};

/// A graph that is being changed. Nodes may be added at any time; [`Rewriter::finish`] sorts them, drops those that
/// nobody reads and renumbers.
#[derive(Debug)]
pub struct Rewriter {
    graph: Graph,
    /// What each value was replaced by.
    replaced: Vec<Value>,
    /// Where each node stands: one that was added stands where what it replaces stood.
    places: Vec<usize>,
}

impl Rewriter {
    /// Starts from a graph.
    pub fn new(graph: Graph) -> Self {
        let replaced = (0..graph.values.len()).map(Value::at).collect();
        let places = (0..graph.nodes.len()).collect();
        Self { graph, replaced, places }
    }

    /// The graph as it was, with the nodes that were added behind it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The node that computes a value.
    pub fn producer(&self, value: Value) -> Option<usize> {
        match self.graph.info(self.current(value)).origin {
            Origin::Node { node, output: 0 } => Some(node),
            _ => None,
        }
    }

    /// What a value was replaced by, or itself.
    pub fn current(&self, value: Value) -> Value {
        let mut value = value;
        while self.replaced[value.index()] != value {
            value = self.replaced[value.index()];
        }
        value
    }

    fn value(&mut self, desc: TensorDesc, origin: Origin) -> Value {
        let value = Value::at(self.graph.values.len());
        self.graph.values.push(ValueInfo { desc, origin });
        self.replaced.push(value);
        value
    }

    /// A tensor that is part of the graph.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        self.value(tensor.desc(), Origin::Constant(tensor))
    }

    /// Adds a node and gives its outputs.
    pub fn add(
        &mut self,
        op: Arc<dyn Op>,
        epilogue: Epilogue,
        inputs: &[Value],
        path: &str,
    ) -> Result<Vec<Value>, GraphError> {
        let own = inputs.len() - epilogue.operands();
        let descs: Vec<TensorDesc> =
            inputs[..own].iter().map(|&value| self.graph.desc(self.current(value)).clone()).collect();
        let error = |error| GraphError::Op { path: path.to_string(), error };
        let descs = op.infer(&descs).map_err(error)?;
        let node = self.graph.nodes.len();
        let outputs: Vec<Value> = descs
            .into_iter()
            .enumerate()
            .map(|(output, desc)| self.value(desc, Origin::Node { node, output }))
            .collect();
        self.graph.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            epilogue,
            path: path.to_string(),
            fused: Vec::new(),
        });
        self.places.push(node);
        Ok(outputs)
    }

    /// Notes that the node that computes `value` does the work of nodes with these paths too, of the last one last.
    pub fn fused<'a>(&mut self, value: Value, paths: impl IntoIterator<Item = &'a String>) {
        let Origin::Node { node, .. } = self.graph.info(value).origin else { return };
        let Some(node) = self.graph.nodes.get_mut(node) else { return };
        for path in paths {
            if node.fused.last().unwrap_or(&node.path) != path {
                node.fused.push(path.clone());
            }
        }
    }

    /// Adds a node of one output, without an epilogue.
    pub fn op(&mut self, op: impl Op, inputs: &[Value], path: &str) -> Result<Value, GraphError> {
        self.shared_op(Arc::new(op), inputs, path)
    }

    /// The same with an op that other nodes have too.
    pub fn shared_op(&mut self, op: Arc<dyn Op>, inputs: &[Value], path: &str) -> Result<Value, GraphError> {
        let outputs = self.add(op, Epilogue::default(), inputs, path)?;
        let none = || GraphError::Value { what: "output", name: path.into(), reason: "there is none".into() };
        outputs.first().copied().ok_or_else(none)
    }

    /// Makes whoever read `old` read `new`.
    pub fn replace(&mut self, old: Value, new: Value) {
        let (old, new) = (self.current(old), self.current(new));
        if old != new {
            if let [Origin::Node { node: old, .. }, Origin::Node { node: new, .. }] =
                [old, new].map(|value| &self.graph.info(value).origin)
            {
                self.places[*new] = self.places[*new].min(self.places[*old]);
            }
            self.replaced[old.index()] = new;
        }
    }

    /// The changed graph, in order, without nodes that nobody reads.
    pub fn finish(self) -> Graph {
        let current: Vec<Value> = (0..self.replaced.len()).map(|i| self.current(Value::at(i))).collect();
        let Graph { values, mut nodes, mut outputs, mut updates } = self.graph;
        let places = self.places;
        for node in &mut nodes {
            for input in &mut node.inputs {
                *input = current[input.index()];
            }
        }
        for (_, value) in &mut outputs {
            *value = current[value.index()];
        }
        for (_, value) in &mut updates {
            *value = current[value.index()];
        }
        // Depth first from what is kept, so that each node comes after what it reads and as late as it may. Of what a node
        // reads, that which stood first comes first: whoever built the graph had a reason.
        let mut order = Vec::new();
        let mut visited = vec![false; nodes.len()];
        let mut stack: Vec<(usize, bool)> = Vec::new();
        let roots = updates.iter().map(|&(_, value)| value);
        let roots: Vec<Value> = roots.chain(outputs.iter().map(|&(_, value)| value)).collect();
        for root in roots {
            let producer = |value: Value| match values[value.index()].origin {
                Origin::Node { node, .. } => Some(node),
                _ => None,
            };
            stack.extend(producer(root).map(|node| (node, false)));
            while let Some((node, ready)) = stack.pop() {
                if ready {
                    order.push(node);
                } else if !visited[node] {
                    visited[node] = true;
                    stack.push((node, true));
                    let inputs = nodes[node].inputs.iter().filter_map(|&input| producer(input));
                    let mut unseen: Vec<usize> = inputs.filter(|&n| !visited[n]).collect();
                    unseen.sort_by_key(|&n| std::cmp::Reverse(places[n]));
                    stack.extend(unseen.into_iter().map(|n| (n, false)));
                }
            }
        }
        renumber(values, nodes, outputs, updates, &order)
    }
}

/// A graph of the nodes in `order`, with only the values that they and the graph's interface use.
fn renumber(
    values: Vec<ValueInfo>,
    nodes: Vec<Node>,
    outputs: Vec<(String, Value)>,
    updates: Vec<(Value, Value)>,
    order: &[usize],
) -> Graph {
    let mut used = vec![false; values.len()];
    for &node in order {
        for value in nodes[node].inputs.iter().chain(&nodes[node].outputs) {
            used[value.index()] = true;
        }
    }
    for (_, value) in &outputs {
        used[value.index()] = true;
    }
    for (state, value) in &updates {
        used[state.index()] = true;
        used[value.index()] = true;
    }
    let mut place = vec![0; nodes.len()];
    for (position, &node) in order.iter().enumerate() {
        place[node] = position;
    }
    let mut new = vec![Value(0); values.len()];
    let mut kept = Vec::new();
    for (i, mut info) in values.into_iter().enumerate() {
        // Inputs and states stay part of the interface even where nobody reads them.
        if !used[i] && !matches!(info.origin, Origin::Input(_) | Origin::State(_)) {
            continue;
        }
        if let Origin::Node { node, .. } = &mut info.origin {
            *node = place[*node];
        }
        new[i] = Value::at(kept.len());
        kept.push(info);
    }
    let map = |value: Value| new[value.index()];
    let mut slots: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let nodes = order
        .iter()
        .filter_map(|&node| slots[node].take())
        .map(|mut node| {
            node.inputs.iter_mut().for_each(|value| *value = map(*value));
            node.outputs.iter_mut().for_each(|value| *value = map(*value));
            node
        })
        .collect();
    Graph {
        values: kept,
        nodes,
        outputs: outputs.into_iter().map(|(name, value)| (name, map(value))).collect(),
        updates: updates.into_iter().map(|(state, value)| (map(state), map(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Unary;
    use crate::passes::fuse_epilogues;
    use crate::{Builder, DType};

    #[test]
    fn what_stood_first_comes_first() {
        let mut b = Builder::new();
        let x = b.input("x", [4, 8], DType::F32).unwrap();
        let product = |b: &mut Builder, name: &str, x: Value| {
            b.scope(name, |b| {
                let w = b.weight("w", [8, 8])?;
                let y = b.linear(x, w, None)?;
                b.unary(Unary::Relu, y)
            })
        };
        let shortcut = product(&mut b, "shortcut", x).unwrap();
        let y = product(&mut b, "first", x).unwrap();
        let y = product(&mut b, "second", y).unwrap();
        // The shortcut is read last.
        let y = b.add(y, shortcut).unwrap();
        b.output("y", y).unwrap();
        let graph = fuse_epilogues(b.finish()).unwrap();
        let paths: Vec<&str> = graph.nodes().iter().map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["shortcut", "first", "second"]);
        assert_eq!(graph.nodes()[2].epilogue.steps.len(), 2);
    }
}
