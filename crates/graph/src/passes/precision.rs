//! f16 storage.

use std::collections::{BTreeSet, HashMap};

use crate::ops::Cast;
use crate::{DType, Epilogue, Graph, GraphError, Node, Origin, TensorDesc, Value, ValueInfo};

/// Stores activations, and weights where they are used, in f16; sums stay f32 inside the kernels.
///
/// Inputs and states become f16 too; whoever runs the graph converts at its boundary. Nodes whose path is in `keep_f32`,
/// whose op asks for it ([`crate::Op::keeps_f32`]) or has no f16 form run in f32 between casts. What depends on weights
/// alone is computed in f32 and rounded once.
pub fn to_f16(graph: &Graph, keep_f32: &BTreeSet<String>) -> Result<Graph, GraphError> {
    let constant = graph.constants();
    let keeps = |node: &Node| node.op.keeps_f32() || keep_f32.contains(&node.path);
    let mut wants_f32 = vec![false; graph.values().len()];
    for node in graph.nodes().iter().filter(|node| keeps(node)) {
        for input in &node.inputs {
            wants_f32[input.index()] = true;
        }
    }
    let mut lowering = Lowering { new: Graph::default(), map: Vec::new(), casts: HashMap::new() };
    for (i, info) in graph.values().iter().enumerate() {
        let lowered = match &info.origin {
            Origin::Node { .. } => None,
            origin => {
                let kept = constant[i] || wants_f32[i] || info.desc.dtype != DType::F32;
                let dtype = if kept { info.desc.dtype } else { DType::F16 };
                let desc = TensorDesc { dtype, ..info.desc.clone() };
                Some(lowering.value(desc, origin.clone()))
            }
        };
        lowering.map.push(lowered);
    }
    for node in graph.nodes() {
        let is_constant = node.outputs.iter().all(|out| constant[out.index()]);
        let float = if is_constant || keeps(node) { DType::F32 } else { DType::F16 };
        if lowering.node(node, float).is_err() {
            lowering.node(node, DType::F32)?;
        }
    }
    let mut outputs = Vec::new();
    for (name, value) in graph.outputs() {
        outputs.push((name.clone(), lowering.lowered(*value)?));
    }
    let mut updates = Vec::new();
    for &(state, value) in graph.updates() {
        let state = lowering.lowered(state)?;
        let dtype = lowering.new.desc(state).dtype;
        let value = lowering.lowered(value)?;
        updates.push((state, lowering.cast(value, dtype, "")?));
    }
    lowering.new.outputs = outputs;
    lowering.new.updates = updates;
    Ok(lowering.new)
}

struct Lowering {
    new: Graph,
    /// The new value of each old one.
    map: Vec<Option<Value>>,
    casts: HashMap<(Value, DType), Value>,
}

impl Lowering {
    fn value(&mut self, desc: TensorDesc, origin: Origin) -> Value {
        self.new.values.push(ValueInfo { desc, origin });
        Value::at(self.new.values.len() - 1)
    }

    fn lowered(&self, old: Value) -> Result<Value, GraphError> {
        let missing = || GraphError::Value {
            what: "value",
            name: format!("{old:?}"),
            reason: "is read before it is computed".into(),
        };
        self.map.get(old.index()).copied().flatten().ok_or_else(missing)
    }

    /// A float value in this type.
    fn cast(&mut self, value: Value, dtype: DType, path: &str) -> Result<Value, GraphError> {
        let from = self.new.desc(value).dtype;
        if from == dtype || !from.is_float() {
            return Ok(value);
        }
        if let Some(&cast) = self.casts.get(&(value, dtype)) {
            return Ok(cast);
        }
        let node = Node {
            op: std::sync::Arc::new(Cast { to: dtype }),
            inputs: vec![value],
            outputs: Vec::new(),
            epilogue: Epilogue::default(),
            path: path.to_string(),
            fused: Vec::new(),
        };
        let cast = self.push(node)?[0];
        self.casts.insert((value, dtype), cast);
        Ok(cast)
    }

    /// Adds a node whose inputs are new values.
    fn push(&mut self, mut node: Node) -> Result<Vec<Value>, GraphError> {
        let own = node.own_inputs();
        let descs: Vec<TensorDesc> = node.inputs[..own].iter().map(|&v| self.new.desc(v).clone()).collect();
        let error = |error| GraphError::Op { path: node.path.clone(), error };
        let descs = node.op.infer(&descs).map_err(error)?;
        let index = self.new.nodes.len();
        let outputs: Vec<Value> = descs
            .into_iter()
            .enumerate()
            .map(|(output, desc)| self.value(desc, Origin::Node { node: index, output }))
            .collect();
        node.outputs = outputs.clone();
        self.new.nodes.push(node);
        Ok(outputs)
    }

    /// Adds an old node with its float inputs in this type.
    fn node(&mut self, node: &Node, float: DType) -> Result<(), GraphError> {
        let mut inputs = Vec::new();
        for &input in &node.inputs {
            let value = self.lowered(input)?;
            inputs.push(self.cast(value, float, &node.path)?);
        }
        let outputs = self.push(Node { inputs, outputs: Vec::new(), ..node.clone() })?;
        for (old, new) in node.outputs.iter().zip(outputs) {
            self.map[old.index()] = Some(new);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::ops::Unary;

    fn dtypes(graph: &Graph) -> Vec<DType> {
        graph.nodes().iter().map(|node| graph.desc(node.outputs[0]).dtype).collect()
    }

    fn two_layers() -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", [4, 8], DType::F32).unwrap();
        let w = b.weight("w", [8, 8]).unwrap();
        let w = b.unary(Unary::Neg, w).unwrap();
        let y = b.scope("first", |b| b.linear(x, w, None)).unwrap();
        let z = b.scope("second", |b| b.linear(y, w, None)).unwrap();
        b.output("z", z).unwrap();
        b.finish()
    }

    #[test]
    fn weights_are_rounded_once_and_after_constant_work() {
        let graph = to_f16(&two_layers(), &BTreeSet::new()).unwrap();
        // -w in f32, its cast, and two products.
        assert_eq!(dtypes(&graph), [DType::F32, DType::F16, DType::F16, DType::F16]);
        assert!(graph.inputs().all(|(_, value)| graph.desc(value).dtype == DType::F16));
    }

    #[test]
    fn a_kept_node_runs_in_f32_between_casts() {
        let keep = BTreeSet::from(["second".to_string()]);
        let graph = to_f16(&two_layers(), &keep).unwrap();
        let products: Vec<DType> = graph
            .nodes()
            .iter()
            .filter(|node| node.op.name() == "matmul")
            .map(|node| graph.desc(node.outputs[0]).dtype)
            .collect();
        assert_eq!(products, [DType::F16, DType::F32]);
    }
}
