//! Graphs: values, nodes that compute them, and the builder that makes both.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::{DType, Epilogue, Io, LengthError, Op, OpError, Tensor, TensorDesc};

/// A value of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// The value of this index, the inverse of [`Value::index`].
    pub fn at(index: usize) -> Self {
        Value(index as u32)
    }

    /// The value's index among the graph's values.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Given at each run, by this name.
    Input(String),
    /// Read from the weights, by this name.
    Weight(String),
    /// Part of the graph.
    Constant(Tensor),
    /// Kept on the device from run to run, by this name; zeros before the first.
    State(String),
    /// Output `output` of node `node`.
    Node {
        /// Index of the node.
        node: usize,
        /// Which of its outputs.
        output: usize,
    },
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub struct ValueInfo {
    /// Shape and element type.
    pub desc: TensorDesc,
    /// Where it comes from.
    pub origin: Origin,
}

/// An op applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Arc<dyn Op>,
    /// The op's inputs, then the epilogue's operands.
    pub inputs: Vec<Value>,
    /// The op's outputs.
    pub outputs: Vec<Value>,
    /// Elementwise work on output 0.
    pub epilogue: Epilogue,
    /// Where in the model it stands, such as `vit.encoder.layer.0.attention`.
    pub path: String,
    /// Paths of the nodes whose work passes moved into this one, in order: the last one's result is output 0.
    pub fused: Vec<String>,
}

impl Node {
    /// Number of the op's own inputs, before the epilogue's operands.
    pub fn own_inputs(&self) -> usize {
        self.inputs.len() - self.epilogue.operands()
    }
}

/// A graph that cannot be built or computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// An op cannot take its inputs.
    #[error("at {path:?}: {error}")]
    Op {
        /// Where in the model.
        path: String,
        /// What is wrong.
        #[source]
        error: OpError,
    },
    /// A name is used twice.
    #[error("the name {0:?} is used twice")]
    Duplicate(String),
    /// An input, weight or state is missing or has another shape or type.
    #[error("{what} {name:?}: {reason}")]
    Value {
        /// `"input"`, `"weight"` or `"state"`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A constant's elements do not fit its shape.
    #[error("a constant: {0}")]
    Constant(#[from] LengthError),
}

/// What to compute: nodes in an order in which each comes after what it reads.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<(String, Value)>,
    /// State updates at the end of a run: (state, new value).
    pub(crate) updates: Vec<(Value, Value)>,
}

impl Graph {
    /// The nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All values.
    pub fn values(&self) -> &[ValueInfo] {
        &self.values
    }

    /// What is known of a value.
    pub fn info(&self, value: Value) -> &ValueInfo {
        &self.values[value.index()]
    }

    /// A value's shape and type.
    pub fn desc(&self, value: Value) -> &TensorDesc {
        &self.values[value.index()].desc
    }

    /// Named outputs.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// State updates: each state's value after a run.
    pub fn updates(&self) -> &[(Value, Value)] {
        &self.updates
    }

    /// Named inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Value)> {
        self.named(|origin| match origin {
            Origin::Input(name) => Some(name),
            _ => None,
        })
    }

    /// Named weights.
    pub fn weights(&self) -> impl Iterator<Item = (&str, Value)> {
        self.named(|origin| match origin {
            Origin::Weight(name) => Some(name),
            _ => None,
        })
    }

    /// Named states.
    pub fn states(&self) -> impl Iterator<Item = (&str, Value)> {
        self.named(|origin| match origin {
            Origin::State(name) => Some(name),
            _ => None,
        })
    }

    fn named(&self, pick: fn(&Origin) -> Option<&String>) -> impl Iterator<Item = (&str, Value)> {
        self.values
            .iter()
            .enumerate()
            .filter_map(move |(i, info)| Some((pick(&info.origin)?.as_str(), Value(i as u32))))
    }

    /// For each value, whether it depends on weights and constants alone, so that it is computed once.
    pub fn constants(&self) -> Vec<bool> {
        let mut constant: Vec<bool> = self
            .values
            .iter()
            .map(|info| matches!(info.origin, Origin::Weight(_) | Origin::Constant(_)))
            .collect();
        for node in &self.nodes {
            let all = node.inputs.iter().all(|value| constant[value.index()]);
            for output in &node.outputs {
                constant[output.index()] = all;
            }
        }
        constant
    }

    /// How often each value is read, by nodes, outputs and state updates.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let read = self.nodes.iter().flat_map(|node| &node.inputs);
        let kept = self.outputs.iter().map(|(_, value)| value);
        let stored = self.updates.iter().map(|(_, value)| value);
        for value in read.chain(kept).chain(stored) {
            uses[value.index()] += 1;
        }
        uses
    }

    /// Descriptions of a node's inputs and outputs.
    pub fn node_descs(&self, node: &Node) -> (Vec<TensorDesc>, Vec<TensorDesc>) {
        let descs = |values: &[Value]| values.iter().map(|&value| self.desc(value).clone()).collect();
        (descs(&node.inputs), descs(&node.outputs))
    }

    /// The tensor given for an input, cast between float types where that is all that differs.
    pub fn check_input(
        &self,
        name: &str,
        value: Value,
        given: Option<&Tensor>,
    ) -> Result<Tensor, GraphError> {
        let missing = || GraphError::Value { what: "input", name: name.into(), reason: "is missing".into() };
        crate::interpret::check("input", name, given.cloned().ok_or_else(missing)?, self, value)
    }

    /// The tensor given for a state, cast between float types where that is all that differs.
    pub fn check_state(&self, name: &str, given: &Tensor) -> Result<Tensor, GraphError> {
        let unknown =
            || GraphError::Value { what: "state", name: name.into(), reason: "there is none".into() };
        let (_, value) = self.states().find(|(other, _)| *other == name).ok_or_else(unknown)?;
        crate::interpret::check("state", name, given.clone(), self, value)
    }

    /// Floating-point operations of a run, constant work left out.
    pub fn flops(&self) -> u64 {
        let constant = self.constants();
        let live = self.nodes.iter().filter(|node| node.outputs.iter().any(|out| !constant[out.index()]));
        live.map(|node| {
            let (inputs, outputs) = self.node_descs(node);
            let io = Io { inputs: &inputs, outputs: &outputs, constant: &[], epilogue: &node.epilogue };
            node.op.flops(&io)
        })
        .sum()
    }
}

/// Builds a graph node by node. Methods that add ops stand beside the ops.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
    names: HashMap<String, Value>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `build` with `name` appended to the path of the nodes and weights it adds.
    pub fn scope<T>(&mut self, name: impl Into<String>, build: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.into());
        let result = build(self);
        self.scope.pop();
        result
    }

    /// The current path, dot-separated.
    pub fn path(&self) -> String {
        self.scope.join(".")
    }

    /// `name` behind the current path.
    pub fn qualify(&self, name: &str) -> String {
        if self.scope.is_empty() { name.to_string() } else { format!("{}.{name}", self.path()) }
    }

    fn value(&mut self, desc: TensorDesc, origin: Origin) -> Value {
        self.graph.values.push(ValueInfo { desc, origin });
        Value(self.graph.values.len() as u32 - 1)
    }

    fn named(
        &mut self,
        kind: &str,
        name: &str,
        desc: TensorDesc,
        origin: Origin,
    ) -> Result<Value, GraphError> {
        let value = self.value(desc, origin);
        match self.names.insert(format!("{kind} {name}"), value) {
            None => Ok(value),
            Some(_) => Err(GraphError::Duplicate(name.to_string())),
        }
    }

    /// A tensor given at each run. A runtime scalar (a cache length, a noise level) is an input of shape `[]`.
    pub fn input(
        &mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        dtype: DType,
    ) -> Result<Value, GraphError> {
        let name = name.into();
        self.named("input", &name.clone(), TensorDesc::new(shape, dtype), Origin::Input(name))
    }

    /// The weight of this name behind the current path, in its checkpoint's shape. Asking again for one gives the
    /// same value.
    pub fn weight(&mut self, name: &str, shape: impl Into<Vec<usize>>) -> Result<Value, GraphError> {
        let name = self.qualify(name);
        let desc = TensorDesc::new(shape, DType::F32);
        if let Some(&value) = self.names.get(&format!("weight {name}")) {
            return if *self.desc(value) == desc {
                Ok(value)
            } else {
                let reason = format!("is used both as {} and as {desc}", self.desc(value));
                Err(GraphError::Value { what: "weight", name, reason })
            };
        }
        self.named("weight", &name.clone(), desc, Origin::Weight(name))
    }

    /// A tensor that is part of the graph.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        self.value(tensor.desc(), Origin::Constant(tensor))
    }

    /// A tensor that stays on the device from run to run: zeros before the first.
    pub fn state(
        &mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        dtype: DType,
    ) -> Result<Value, GraphError> {
        let name = name.into();
        self.named("state", &name.clone(), TensorDesc::new(shape, dtype), Origin::State(name))
    }

    /// Makes `value` the content of `state` after a run. All states change at once: a value that is a state, or is
    /// computed from one, is what it was before the run's end.
    pub fn update(&mut self, state: Value, value: Value) -> Result<(), GraphError> {
        let wrong =
            |name: &str, reason: String| GraphError::Value { what: "state", name: name.into(), reason };
        let Origin::State(name) = &self.graph.info(state).origin else {
            return Err(wrong(&format!("{state:?}"), "is not a state".into()));
        };
        if self.desc(state) != self.desc(value) {
            let reason = format!("is {} but its new value is {}", self.desc(state), self.desc(value));
            return Err(wrong(name, reason));
        }
        if self.graph.updates.iter().any(|&(other, _)| other == state) {
            return Err(wrong(name, "is updated twice".into()));
        }
        self.graph.updates.push((state, value));
        Ok(())
    }

    /// A value's shape and type.
    pub fn desc(&self, value: Value) -> &TensorDesc {
        self.graph.desc(value)
    }

    /// A value's shape.
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.graph.desc(value).shape
    }

    /// Adds an op and gives its outputs.
    pub fn op_all(&mut self, op: impl Op, inputs: &[Value]) -> Result<Vec<Value>, GraphError> {
        self.shared_op(Arc::new(op), inputs)
    }

    /// Adds an op that is already shared and gives its outputs.
    pub fn shared_op(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Vec<Value>, GraphError> {
        self.fused_op(op, Epilogue::default(), inputs)
    }

    /// Adds an op with an epilogue, whose operands are the last inputs, and gives its outputs.
    pub fn fused_op(
        &mut self,
        op: Arc<dyn Op>,
        epilogue: Epilogue,
        inputs: &[Value],
    ) -> Result<Vec<Value>, GraphError> {
        let own = inputs.len().saturating_sub(epilogue.operands());
        let descs: Vec<TensorDesc> = inputs[..own].iter().map(|&value| self.desc(value).clone()).collect();
        let path = self.path();
        let outputs = op.infer(&descs).map_err(|error| GraphError::Op { path: path.clone(), error })?;
        let node = self.graph.nodes.len();
        let outputs = outputs
            .into_iter()
            .enumerate()
            .map(|(output, desc)| self.value(desc, Origin::Node { node, output }))
            .collect::<Vec<_>>();
        self.graph.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            epilogue,
            path,
            fused: Vec::new(),
        });
        Ok(outputs)
    }

    /// Adds an op and gives its first output.
    pub fn op(&mut self, op: impl Op, inputs: &[Value]) -> Result<Value, GraphError> {
        let outputs = self.op_all(op, inputs)?;
        let none = || GraphError::Value { what: "output", name: self.path(), reason: "there is none".into() };
        outputs.first().copied().ok_or_else(none)
    }

    /// Names an output of the graph.
    pub fn output(&mut self, name: impl Into<String>, value: Value) -> Result<(), GraphError> {
        let name = name.into();
        if self.graph.outputs.iter().any(|(other, _)| *other == name) {
            return Err(GraphError::Duplicate(name));
        }
        self.graph.outputs.push((name, value));
        Ok(())
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
