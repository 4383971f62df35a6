//! The CPU reference of a whole graph: each node's definition, in order.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::range::{self, Excess, OutOfRange, out_of_range};
use crate::{DType, Graph, GraphError, Node, Origin, Tensor, TensorDesc, Value};

/// Where weights come from: a file, or a recipe.
pub trait WeightSource {
    /// Reads a tensor. Called once for each weight a graph needs; nothing else is kept in memory.
    fn load(&self, name: &str) -> Result<Tensor, GraphError>;
}

/// Weights in memory.
impl WeightSource for HashMap<String, Tensor> {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let missing = || GraphError::Value { what: "weight", name: name.into(), reason: "is missing".into() };
        self.get(name).cloned().ok_or_else(missing)
    }
}

/// Checks a tensor against what the graph wants under this name.
pub(crate) fn check(
    what: &'static str,
    name: &str,
    tensor: Tensor,
    graph: &Graph,
    value: Value,
) -> Result<Tensor, GraphError> {
    let desc = graph.desc(value);
    if tensor.shape() != desc.shape {
        let reason = format!("has shape {:?} where {:?} is wanted", tensor.shape(), desc.shape);
        return Err(GraphError::Value { what, name: name.into(), reason });
    }
    if tensor.dtype() == desc.dtype {
        return Ok(tensor);
    }
    if tensor.dtype().is_float() && desc.dtype.is_float() {
        return Ok(tensor.cast(desc.dtype));
    }
    let reason = format!("is {} where {} is wanted", tensor.dtype(), desc.dtype);
    Err(GraphError::Value { what, name: name.into(), reason })
}

/// Computes one node by definition.
pub fn interpret_node(node: &Node, inputs: &[&Tensor]) -> Result<Vec<Tensor>, GraphError> {
    let (own, operands) = inputs.split_at(node.own_inputs().min(inputs.len()));
    let run = || {
        if node.epilogue.is_empty() {
            return node.op.reference(own);
        }
        // What an op hands to its epilogue is never stored, so it is not rounded to f16 and may leave its range.
        let descs: Vec<TensorDesc> = own.iter().map(|tensor| tensor.desc()).collect();
        let wide = |tensor: &&Tensor| {
            if tensor.dtype() == DType::F16 { tensor.cast(DType::F32) } else { (*tensor).clone() }
        };
        let wide: Vec<Tensor> = own.iter().map(wide).collect();
        let mut outputs = node.op.reference(&wide.iter().collect::<Vec<_>>())?;
        if let Some(first) = outputs.first_mut() {
            *first = node.epilogue.reference(first, operands)?;
        }
        let stored = node.op.infer(&descs)?;
        Ok(outputs.iter().zip(stored).map(|(tensor, desc)| tensor.cast(desc.dtype)).collect())
    };
    run().map_err(|error| GraphError::Op { path: node.path.clone(), error })
}

/// Computes values that depend on weights and constants alone, loading only what they need.
pub struct ConstantFolder<'a> {
    graph: &'a Graph,
    weights: &'a dyn WeightSource,
    excess: RefCell<HashMap<Value, Excess>>,
}

impl<'a> ConstantFolder<'a> {
    /// A folder over a graph's constant values.
    pub fn new(graph: &'a Graph, weights: &'a dyn WeightSource) -> Self {
        Self { graph, weights, excess: RefCell::default() }
    }

    /// The value, which must be constant ([`Graph::constants`]).
    pub fn value(&self, value: Value) -> Result<Tensor, GraphError> {
        let tensor = self.compute(value)?;
        if tensor.dtype() == DType::F16 {
            self.excess.borrow_mut().insert(value, Excess::of(&tensor, range::LARGEST_F16));
        }
        Ok(tensor)
    }

    /// What those of the values computed so far that are f16 hold beyond its range.
    pub fn excess(&self) -> HashMap<Value, Excess> {
        self.excess.borrow().clone()
    }

    fn compute(&self, value: Value) -> Result<Tensor, GraphError> {
        match &self.graph.info(value).origin {
            Origin::Constant(tensor) => Ok(tensor.clone()),
            Origin::Weight(name) => check("weight", name, self.weights.load(name)?, self.graph, value),
            Origin::Node { node, output } => {
                let node = &self.graph.nodes[*node];
                let inputs =
                    node.inputs.iter().map(|&input| self.value(input)).collect::<Result<Vec<_>, _>>()?;
                let mut outputs = interpret_node(node, &inputs.iter().collect::<Vec<_>>())?;
                Ok(outputs.swap_remove(*output))
            }
            Origin::Input(name) | Origin::State(name) => {
                let reason = "is not constant".into();
                Err(GraphError::Value { what: "value", name: name.clone(), reason })
            }
        }
    }
}

/// A graph on the CPU reference, with its weights and states in memory.
pub struct Interpreter {
    graph: Graph,
    constants: HashMap<Value, Tensor>,
    /// What constants in f16 hold beyond its range.
    excess: HashMap<Value, Excess>,
    states: HashMap<Value, Tensor>,
    last_use: Vec<usize>,
}

impl Interpreter {
    /// Loads the weights and computes what depends on them alone.
    pub fn new(graph: Graph, weights: &dyn WeightSource) -> Result<Self, GraphError> {
        let constant = graph.constants();
        let folder = ConstantFolder::new(&graph, weights);
        let mut constants = HashMap::new();
        let live = graph.nodes.iter().filter(|node| node.outputs.iter().any(|out| !constant[out.index()]));
        let read = live.flat_map(|node| node.inputs.iter().copied());
        let kept = graph.outputs.iter().map(|&(_, value)| value);
        let stored = graph.updates.iter().map(|&(_, value)| value);
        for value in read.chain(kept).chain(stored) {
            if constant[value.index()] && !constants.contains_key(&value) {
                constants.insert(value, folder.value(value)?);
            }
        }
        let excess = folder.excess();
        let states = graph.states().map(|(_, value)| (value, Tensor::zeros(graph.desc(value)))).collect();
        let mut last_use = vec![0; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            for input in &node.inputs {
                last_use[input.index()] = i;
            }
        }
        let kept = graph.outputs.iter().map(|&(_, value)| value);
        for value in kept.chain(graph.updates.iter().map(|&(_, value)| value)) {
            last_use[value.index()] = usize::MAX;
        }
        Ok(Self { graph, constants, excess, states, last_use })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Sets the states back to zeros.
    pub fn reset(&mut self) {
        for (value, tensor) in &mut self.states {
            *tensor = Tensor::zeros(self.graph.desc(*value));
        }
    }

    /// Gives a state its content for the next run.
    pub fn set_state(&mut self, name: &str, tensor: &Tensor) -> Result<(), GraphError> {
        let tensor = self.graph.check_state(name, tensor)?;
        if let Some((_, value)) = self.graph.states().find(|(other, _)| *other == name) {
            self.states.insert(value, tensor);
        }
        Ok(())
    }

    /// What a state holds after the runs so far, or `None` where there is none of this name.
    pub fn state(&self, name: &str) -> Option<&Tensor> {
        let (_, value) = self.graph.states().find(|(other, _)| *other == name)?;
        self.states.get(&value)
    }

    /// Computes the outputs, in the graph's order, and updates the states.
    pub fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, GraphError> {
        self.run_watched(inputs, &mut |_, _| {})
    }

    /// Runs, and says which tensors are to blame where some leave the range of f16; see [`crate::range`].
    pub fn run_checked(
        &mut self,
        inputs: &[(&str, Tensor)],
    ) -> Result<(Vec<Tensor>, Vec<OutOfRange>), GraphError> {
        let limit = range::limit(&self.graph);
        let mut found = self.excess.clone();
        let outputs = self.run_watched(inputs, &mut |value, tensor| {
            found.insert(value, Excess::of(tensor, limit));
        })?;
        Ok((outputs, out_of_range(&self.graph, &found)))
    }

    /// `see` is shown the inputs, the states and whatever is computed.
    fn run_watched(
        &mut self,
        inputs: &[(&str, Tensor)],
        see: &mut dyn FnMut(Value, &Tensor),
    ) -> Result<Vec<Tensor>, GraphError> {
        let graph = &self.graph;
        let mut values: HashMap<Value, Tensor> = self.constants.clone();
        values.extend(self.states.iter().map(|(&value, tensor)| (value, tensor.clone())));
        for (name, value) in graph.inputs() {
            let given = inputs.iter().find(|(other, _)| *other == name).map(|(_, tensor)| tensor);
            values.insert(value, graph.check_input(name, value, given)?);
        }
        let given = graph.inputs().chain(graph.states());
        given
            .filter_map(|(_, value)| Some((value, values.get(&value)?)))
            .for_each(|(value, tensor)| see(value, tensor));
        for (i, node) in graph.nodes.iter().enumerate() {
            if node.outputs.iter().all(|out| values.contains_key(out)) {
                continue;
            }
            // A node whose result nobody wants may read constants that were not kept.
            let Some(given) = node.inputs.iter().map(|input| values.get(input)).collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            let outputs = interpret_node(node, &given)?;
            node.outputs.iter().zip(&outputs).for_each(|(&value, tensor)| see(value, tensor));
            values.extend(node.outputs.iter().copied().zip(outputs));
            for input in &node.inputs {
                if self.last_use[input.index()] == i && !self.constants.contains_key(input) {
                    values.remove(input);
                }
            }
        }
        let get = |value: &Value| {
            let missing = || GraphError::Value {
                what: "output",
                name: format!("{value:?}"),
                reason: "was not computed".into(),
            };
            values.get(value).cloned().ok_or_else(missing)
        };
        let outputs = graph.outputs.iter().map(|(_, value)| get(value)).collect::<Result<Vec<_>, _>>()?;
        for (state, value) in &graph.updates {
            self.states.insert(*state, get(value)?);
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, DType};

    #[test]
    fn states_change_at_once() {
        let mut b = Builder::new();
        let one = b.constant(Tensor::scalar(1.0));
        let (x, y) = (b.state("x", [], DType::F32).unwrap(), b.state("y", [], DType::F32).unwrap());
        let next = b.add(y, one).unwrap();
        b.update(x, next).unwrap();
        b.update(y, x).unwrap();
        assert!(b.update(y, next).is_err());
        b.output("x", x).unwrap();
        b.output("y", y).unwrap();
        let mut interpreter = Interpreter::new(b.finish(), &HashMap::new()).unwrap();
        assert!(interpreter.set_state("z", &Tensor::scalar(1.0)).is_err());
        interpreter.set_state("y", &Tensor::scalar(5.0)).unwrap();
        for wanted in [[0.0, 5.0], [6.0, 0.0], [1.0, 6.0], [7.0, 1.0]] {
            let outputs = interpreter.run(&[]).unwrap();
            assert_eq!(outputs, wanted.map(Tensor::scalar));
        }
    }
}
