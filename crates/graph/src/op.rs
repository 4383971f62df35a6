//! The op contract.

use std::any::Any;
use std::fmt::Debug;

use crate::{Epilogue, Launch, LengthError, Tensor, TensorDesc, Tier};

/// An op that cannot take its inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} of ({}): {reason}", list(.inputs))]
pub struct OpError {
    /// The op's name.
    pub op: &'static str,
    /// Its inputs.
    pub inputs: Vec<TensorDesc>,
    /// What was expected, or what is not supported.
    pub reason: String,
}

fn list(inputs: &[TensorDesc]) -> String {
    let inputs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    inputs.join(", ")
}

impl OpError {
    /// An error of this op on these inputs.
    pub fn new(op: &'static str, inputs: &[TensorDesc], reason: impl Into<String>) -> Self {
        Self { op, inputs: inputs.to_vec(), reason: reason.into() }
    }
}

impl From<LengthError> for OpError {
    fn from(error: LengthError) -> Self {
        Self { op: "tensor", inputs: Vec::new(), reason: error.to_string() }
    }
}

/// What an op's launch reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    /// The op's inputs, then the epilogue's operands.
    pub inputs: &'a [TensorDesc],
    /// The op's outputs.
    pub outputs: &'a [TensorDesc],
    /// Which inputs are constant, and so may be packed.
    pub constant: &'a [bool],
    /// Elementwise work to do on output 0 before it is stored; empty unless [`Op::fuses_epilogue`].
    pub epilogue: &'a Epilogue,
}

impl Io<'_> {
    /// Whether input `index` is constant.
    pub fn is_constant(&self, index: usize) -> bool {
        self.constant.get(index).copied().unwrap_or(false)
    }
}

/// Along what an op's work falls into parts that need nothing of each other, so that [`crate::launches_within`] can give
/// a device the op on ranges of its tensors where the whole ones are too large for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Independence {
    /// Nothing, or only what the launches cut by themselves.
    None,
    /// Elements of the outputs, all of one shape, over which every input broadcasts.
    Elements,
    /// Axes, outermost first.
    Axes(Vec<Along>),
}

impl Independence {
    /// All axes of input 0 but these; outputs have the same axes, and other inputs none of them.
    pub fn except(io: &Io, axes: &[usize]) -> Self {
        let rank = io.inputs.first().map_or(0, TensorDesc::rank);
        let along = (0..rank).filter(|axis| !axes.contains(axis));
        Self::Axes(along.map(|axis| Along::new([Some(axis)], vec![Some(axis); io.outputs.len()])).collect())
    }
}

/// An axis that tensors share: on a range of it the op, with attributes as they are, gives that range of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Along {
    /// Which of each input's axes it is; an input that does not have it, or is not listed, is needed whole.
    pub inputs: Vec<Option<usize>>,
    /// Which of each output's axes it is: every output has it.
    pub outputs: Vec<Option<usize>>,
}

impl Along {
    /// An axis of these inputs and outputs.
    pub fn new(inputs: impl Into<Vec<Option<usize>>>, outputs: impl Into<Vec<Option<usize>>>) -> Self {
        Self { inputs: inputs.into(), outputs: outputs.into() }
    }
}

/// A computation on tensors: its shape rule, its definition and the kernels that compute it.
///
/// Ops are immutable values. Implement this in any crate to add one; see the README.
pub trait Op: Any + Debug + Send + Sync {
    /// The op's name: a field's term in snake case.
    fn name(&self) -> &'static str;

    /// Descriptions of the outputs, or an error that says what was expected. Must reject whatever
    /// [`Op::reference`] and [`Op::launches`] cannot take.
    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError>;

    /// The definition: scalar loops with f64 accumulators, rounded once at the end.
    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError>;

    /// Launches that compute the op on a device of this tier, best guess first. Called with inputs that
    /// [`Op::infer`] accepted and at least one element in some output.
    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError>;

    /// Launches for a planner that lets output 0 take over input 0's memory, because nobody else reads it: those that
    /// bind it as the output in every dispatch that writes there, and each element is read before it is written. None
    /// where two buffers serve the op better; then it gets two.
    fn launches_in_place(&self, _io: &Io, _tier: &Tier) -> Vec<Launch> {
        Vec::new()
    }

    /// Along what the work falls into parts, for tensors that are larger than a device binds.
    fn independence(&self, _io: &Io) -> Independence {
        Independence::None
    }

    /// The op's attributes, stable between runs, for cache keys.
    fn attributes(&self) -> String {
        format!("{self:?}")
    }

    /// Floating-point operations, a multiply-add counted as two.
    fn flops(&self, io: &Io) -> u64 {
        io.outputs.iter().map(|out| out.len() as u64).sum()
    }

    /// Bytes that have to be read and written at least.
    fn bytes(&self, io: &Io) -> u64 {
        io.inputs.iter().chain(io.outputs).map(|desc| desc.bytes() as u64).sum()
    }

    /// Whether the launches apply [`Io::epilogue`] to output 0.
    fn fuses_epilogue(&self) -> bool {
        false
    }

    /// Pairs (input, output) where the output starts as the input's bytes and the launches bind the output alone: a
    /// scatter, a cache that is appended to. The planner lets both share a buffer, or has the input copied first.
    fn starts_as(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// Whether inputs stay f32 in graphs that store activations in f16: positions, time steps, boxes in pixels.
    fn keeps_f32(&self) -> bool {
        false
    }

    /// Whether output 0 is input 0's bytes under another description, so that nothing runs.
    fn is_view(&self) -> bool {
        false
    }
}

/// The op as type `T`, where it is one.
pub fn downcast<T: Op>(op: &dyn Op) -> Option<&T> {
    (op as &dyn Any).downcast_ref()
}
