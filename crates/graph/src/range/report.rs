//! Which tensors are to blame, and which nodes have to run in f32 for them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::Excess;
use super::masks::masks;
use crate::{Graph, Node, Op, Origin, Step, TensorDesc, Value};

/// A tensor that leaves the range.
#[derive(Clone, Debug, PartialEq)]
pub struct OutOfRange {
    /// Path of the node that computes it, of the last one where several were fused; the name of an input, weight or state.
    pub path: String,
    /// The node's op, or the last step of its epilogue; `"input"`, `"weight"`, `"constant"` or `"state"`.
    pub op: &'static str,
    /// Which of the node's outputs.
    pub output: usize,
    /// Its shape and type.
    pub desc: TensorDesc,
    /// What it holds.
    pub excess: Excess,
    /// Paths of the nodes that write and read it, those that were fused into them included: where they run in f32, it is
    /// f32 between them.
    pub keep_f32: BTreeSet<String>,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, op, desc, excess, .. } = self;
        write!(f, "{op} {path:?} {desc} holds {excess}")
    }
}

/// The tensors that are to blame for what was found: all that leave the range in a finite way, and those of infinities
/// and NaN that nothing they were computed from explains. Masks may hold minus infinity.
pub fn out_of_range(graph: &Graph, found: &HashMap<Value, Excess>) -> Vec<OutOfRange> {
    if found.values().all(|excess| excess.is_none()) {
        return Vec::new();
    }
    let finder = Finder { graph, masks: masks(graph), excess: spread(graph, found) };
    let mut blamed = BTreeSet::new();
    for (i, info) in graph.values().iter().enumerate() {
        let value = Value::at(i);
        if !finder.faulty(value) {
            continue;
        }
        let Origin::Node { node, .. } = info.origin else {
            blamed.insert(value);
            continue;
        };
        let Some(node) = graph.nodes().get(node) else { continue };
        let infects = |value: Value| finder.excess[value.index()].infects(graph.desc(value).dtype);
        if infects(value) && node.inputs.iter().any(|&input| finder.faulty(input) && infects(input)) {
            continue;
        }
        blamed.insert(value);
        // A row that a mask hides as a whole: then the mask was not right as minus infinity.
        if finder.excess[value.index()].has_nan() {
            finder.blame_masks(node, &mut blamed);
        }
    }
    let views = |value: &Value| !finder.is_view(*value);
    blamed.into_iter().filter(views).map(|value| finder.describe(value)).collect()
}

/// What was found, for views too.
fn spread(graph: &Graph, found: &HashMap<Value, Excess>) -> Vec<Excess> {
    let mut excess: Vec<Excess> =
        (0..graph.values().len()).map(|i| found.get(&Value::at(i)).copied().unwrap_or_default()).collect();
    for node in graph.nodes().iter().filter(|node| node.op.is_view() && node.epilogue.is_empty()) {
        if let ([input, ..], [output, ..]) = (&node.inputs[..], &node.outputs[..]) {
            excess[output.index()] = excess[input.index()];
        }
    }
    excess
}

/// The path of what computes output 0 in the end.
fn last_path(node: &Node) -> &String {
    node.fused.last().filter(|_| !node.epilogue.is_empty()).unwrap_or(&node.path)
}

/// The name of what computes output 0 in the end.
fn last_op(node: &Node) -> &'static str {
    match node.epilogue.steps.last() {
        Some(Step::Unary(function)) => function.name(),
        Some(Step::Binary { function, .. }) => function.name(),
        None => node.op.name(),
    }
}

struct Finder<'a> {
    graph: &'a Graph,
    masks: Vec<bool>,
    excess: Vec<Excess>,
}

impl Finder<'_> {
    fn faulty(&self, value: Value) -> bool {
        let excess = self.excess[value.index()];
        let hides = self.masks[value.index()] && excess.is_negative();
        !(excess.is_none() || hides)
    }

    fn producer(&self, value: Value) -> Option<(&Node, usize)> {
        match self.graph.info(value).origin {
            Origin::Node { node, output } => Some((self.graph.nodes().get(node)?, output)),
            _ => None,
        }
    }

    fn is_view(&self, value: Value) -> bool {
        self.producer(value).is_some_and(|(node, _)| node.op.is_view() && node.epilogue.is_empty())
    }

    /// Blames the masks that a node reads, and what they were made from.
    fn blame_masks(&self, node: &Node, blamed: &mut BTreeSet<Value>) {
        let mut open: Vec<Value> = node.inputs.clone();
        while let Some(value) = open.pop() {
            if !self.excess[value.index()].is_none() && !self.faulty(value) && blamed.insert(value) {
                open.extend(self.producer(value).iter().flat_map(|(node, _)| &node.inputs));
            }
        }
    }

    fn describe(&self, value: Value) -> OutOfRange {
        let info = self.graph.info(value);
        let (path, op, output) = match &info.origin {
            Origin::Input(name) => (name.clone(), "input", 0),
            Origin::Weight(name) => (name.clone(), "weight", 0),
            Origin::State(name) => (name.clone(), "state", 0),
            Origin::Constant(_) => (String::new(), "constant", 0),
            Origin::Node { .. } => match (self.weight(value), self.producer(value)) {
                (Some(name), _) => (name.to_string(), "weight", 0),
                (None, Some((node, 0))) => (last_path(node).clone(), last_op(node), 0),
                (None, Some((node, output))) => (node.path.clone(), node.op.name(), output),
                (None, None) => (String::new(), "constant", 0),
            },
        };
        let keep_f32 = self.keep(value);
        OutOfRange { path, op, output, desc: info.desc.clone(), excess: self.excess[value.index()], keep_f32 }
    }

    /// The weight that a value is a rounded copy of.
    fn weight(&self, value: Value) -> Option<&str> {
        let (node, _) = self.producer(value)?;
        let [input] = node.inputs[..] else { return None };
        match &self.graph.info(input).origin {
            Origin::Weight(name) if node.op.name() == "cast" && node.epilogue.is_empty() => Some(name),
            _ => None,
        }
    }

    /// The paths of who writes and reads a value: through views, through constant work, and by way of states.
    fn keep(&self, value: Value) -> BTreeSet<String> {
        let mut keep = BTreeSet::new();
        let mut add = |node: &Node| keep.extend(std::iter::once(&node.path).chain(&node.fused).cloned());
        if let Some((node, _)) = self.producer(value) {
            add(node);
        }
        let constant = self.graph.constants();
        let (mut open, mut seen) = (vec![value], BTreeSet::from([value]));
        while let Some(value) = open.pop() {
            let mut same: Vec<Value> = Vec::new();
            for node in self.graph.nodes().iter().filter(|node| node.inputs.contains(&value)) {
                add(node);
                let view = node.op.is_view() && node.epilogue.is_empty();
                same.extend(node.outputs.iter().filter(|out| view || constant[out.index()]));
            }
            same.extend(
                self.graph.updates().iter().filter(|(_, new)| *new == value).map(|(state, _)| *state),
            );
            open.extend(same.into_iter().filter(|&value| seen.insert(value)));
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::to_f16;
    use crate::{Builder, DType, Interpreter, Tensor};

    /// Runs in f16 and gives (op, path) of what is to blame, and what has to stay f32.
    fn blamed(graph: &Graph, x: &[f32]) -> (Vec<(&'static str, String)>, BTreeSet<String>) {
        let half = to_f16(graph, &BTreeSet::new()).unwrap();
        let mut interpreter = Interpreter::new(half, &HashMap::new()).unwrap();
        let x = Tensor::f32([x.len()], x.to_vec()).unwrap();
        let (_, found) = interpreter.run_checked(&[("x", x)]).unwrap();
        let keep = found.iter().flat_map(|tensor| tensor.keep_f32.clone()).collect();
        (found.into_iter().map(|tensor| (tensor.op, tensor.path)).collect(), keep)
    }

    fn paths(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    /// x * 1000, reshaped, * 0.001, squared.
    fn scaled() -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", [4], DType::F32).unwrap();
        let (large, small) = (b.constant(Tensor::scalar(1e3)), b.constant(Tensor::scalar(1e-3)));
        let y = b.scope("up", |b| b.mul(x, large)).unwrap();
        let y = b.scope("view", |b| b.reshape(y, [2, 2])).unwrap();
        let y = b.scope("down", |b| b.mul(y, small)).unwrap();
        let y = b.scope("square", |b| b.mul(y, y)).unwrap();
        b.output("y", y).unwrap();
        b.finish()
    }

    #[test]
    fn who_leaves_the_range_is_named_and_not_who_reads_it() {
        let (found, keep) = blamed(&scaled(), &[1.0, 100.0, 0.0, -5.0]);
        assert_eq!(found, [("binary", "up".to_string())]);
        assert_eq!(keep, paths(&["up", "view", "down"]));
        assert!(blamed(&scaled(), &[1.0, 60.0, 0.0, -5.0]).0.is_empty());
    }

    #[test]
    fn inputs_and_constants_are_named() {
        assert_eq!(blamed(&scaled(), &[1e6, 1.0, 1.0, 1.0]).0, [("input", "x".to_string())]);
        let mut b = Builder::new();
        let x = b.input("x", [1], DType::F32).unwrap();
        let large = b.constant(Tensor::scalar(1e6));
        let y = b.scope("up", |b| b.mul(x, large)).unwrap();
        b.output("y", y).unwrap();
        let (found, keep) = blamed(&b.finish(), &[1e-3]);
        assert_eq!((found.len(), keep), (1, paths(&["up"])));
    }

    #[test]
    fn masks_are_no_fault_until_they_hide_a_whole_row() {
        let graph = |hidden: usize| {
            let mut b = Builder::new();
            let x = b.input("x", [2], DType::F32).unwrap();
            let row = (0..2).map(|i| if i < hidden { -1e9 } else { 0.0 }).collect();
            let mask = b.constant(Tensor::f32([2], row).unwrap());
            let y = b.scope("add", |b| b.add(x, mask)).unwrap();
            let y = b.scope("softmax", |b| b.softmax(y, -1)).unwrap();
            b.output("y", y).unwrap();
            b.finish()
        };
        assert!(blamed(&graph(1), &[1.0, 2.0]).0.is_empty());
        assert_eq!(blamed(&graph(2), &[1.0, 2.0]).1, paths(&["add", "softmax"]));
    }
}
