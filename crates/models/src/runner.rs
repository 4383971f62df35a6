//! A graph ready to run, on a GPU or on the CPU reference.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use kiln_engine::{CompileOptions, Gpu, Precision, Session};
use kiln_graph::range::OutOfRange;
use kiln_graph::{DType, Graph, Interpreter, Tensor, WeightSource, passes};

use crate::Error;
use crate::weights::SharedWeights;

pub use snapshot::Snapshot;

/// What computes.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one of it, not a list.
pub enum Device {
    /// The CPU reference: the definition of every op, with f64 sums. Slow.
    Cpu,
    /// A GPU.
    Gpu(Gpu),
}

impl Device {
    /// Its name in one line.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => "the CPU reference".into(),
            Device::Gpu(gpu) => gpu.describe(),
        }
    }
}

/// A graph with its weights on a device.
///
/// In f16, the first run, and every one whose outputs hold infinities or NaN, looks for tensors that leave f16's range. The
/// nodes that write and read them run in f32 from then on, and the run is repeated.
pub struct Runner {
    device: Device,
    graph: Graph,
    weights: SharedWeights,
    precision: Precision,
    /// Paths of nodes that run in f32: those that were given, and those of `kept`.
    keep_f32: BTreeSet<String>,
    kept: BTreeSet<String>,
    /// Paths of tensors that f32 does not hold either.
    infinite: BTreeSet<String>,
    /// States as they were given, for when it is compiled again.
    states: BTreeMap<String, Tensor>,
    /// Nothing while it is compiled again: two of it might not fit into memory.
    compiled: Option<Compiled>,
    /// Whether a run has shown what leaves the range.
    settled: bool,
}

/// A compiled graph.
enum Compiled {
    /// With the outputs' types as the graph was given: what is stored in f16 is widened on the way out.
    Cpu(Box<Interpreter>, Vec<DType>),
    Gpu(Box<Session>),
}

/// How often a graph is compiled again. Each time some node more runs in f32, so that it ends; but what takes more than a
/// few is better run in f32 as a whole.
const MAX_ROUNDS: usize = 8;

impl Runner {
    /// Loads the weights and compiles the graph. In f16, nodes whose path is in `keep_f32` run in f32 from the start. The
    /// CPU reference rounds to f16 what the GPU stores in it.
    pub async fn new(
        device: &Device,
        graph: &Graph,
        weights: SharedWeights,
        precision: Precision,
        keep_f32: BTreeSet<String>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let mut runner = Self {
            device: device.clone(),
            graph: graph.clone(),
            weights,
            precision,
            keep_f32,
            kept: BTreeSet::new(),
            infinite: BTreeSet::new(),
            states: BTreeMap::new(),
            compiled: None,
            settled: false,
        };
        runner.compiled = Some(runner.compile(precision, progress).await?);
        Ok(runner)
    }

    async fn compile(
        &self,
        precision: Precision,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Compiled, Error> {
        let weights: &dyn WeightSource = self.weights.as_ref();
        let mut compiled = match &self.device {
            Device::Cpu => {
                let graph = match (self.precision, precision) {
                    (Precision::F32, _) => self.graph.clone(),
                    // As the GPU runs it, so that the same is stored.
                    (_, Precision::F32) => passes::optimise(self.graph.clone())?,
                    _ => passes::optimise(passes::to_f16(&self.graph, &self.keep_f32)?)?,
                };
                let outputs = self.graph.outputs().iter().map(|&(_, value)| self.graph.desc(value).dtype);
                Compiled::Cpu(Box::new(Interpreter::new(graph, weights)?), outputs.collect())
            }
            Device::Gpu(gpu) => {
                let keep_f32 = self.keep_f32.clone();
                let options = CompileOptions { precision, keep_f32, ..Default::default() };
                Compiled::Gpu(Box::new(
                    Session::compile(gpu, &self.graph, weights, &options, progress).await?,
                ))
            }
        };
        for (name, tensor) in &self.states {
            compiled.set_state(name, tensor).await?;
        }
        Ok(compiled)
    }

    /// Gives a state its content for the next run. It is kept, for when the graph has to be compiled again.
    pub async fn set_state(&mut self, name: &str, tensor: &Tensor) -> Result<(), Error> {
        self.states.insert(name.into(), tensor.clone());
        self.compiled().await?.set_state(name, tensor).await
    }

    /// What a state holds after the runs so far, to be read later: on a GPU the next run can be prepared meanwhile.
    pub async fn snapshot(&mut self, name: &str) -> Result<Snapshot, Error> {
        let found = self.graph.states().find(|(other, _)| *other == name);
        let dtype = found.map_or(DType::F32, |(_, value)| self.graph.desc(value).dtype);
        Snapshot::take(self.compiled().await?, name, dtype).await
    }

    async fn compiled(&mut self) -> Result<&mut Compiled, Error> {
        if self.compiled.is_none() {
            self.compiled = Some(self.compile(self.precision, &mut |_, _| {}).await?);
        }
        self.compiled.as_mut().ok_or_else(|| Error::Input("there is no compiled graph".into()))
    }

    /// Computes the outputs, in the graph's order. [`Error::StatesLost`] where states had to be given up for the range of
    /// f16: they are then as they were given.
    pub async fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        if self.precision == Precision::F32 {
            return self.compiled().await?.run(inputs).await;
        }
        let (first, stateful) = (!self.settled, self.graph.states().next().is_some());
        // Looking costs the CPU next to nothing, and a state must not be updated twice by one run.
        if !first && !stateful && !matches!(self.device, Device::Cpu) {
            let outputs = self.compiled().await?.run(inputs).await?;
            if outputs.iter().all(is_finite) {
                return Ok(outputs);
            }
        }
        let (outputs, again) = self.run_in_range(inputs).await?;
        if again && stateful && !first { Err(Error::StatesLost) } else { Ok(outputs) }
    }

    /// Computes the outputs without a look at what leaves f16's range. On a GPU a graph without outputs is not waited for.
    pub async fn run_unchecked(&mut self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        self.compiled().await?.run(inputs).await
    }

    /// Gives the states back what they were given last.
    pub async fn restore_states(&mut self) -> Result<(), Error> {
        for (name, tensor) in self.states.clone() {
            self.compiled().await?.set_state(&name, &tensor).await?;
        }
        Ok(())
    }

    /// Runs, and again with more nodes in f32 as long as a tensor leaves f16's range; says whether it was compiled again.
    async fn run_in_range(&mut self, inputs: &[(&str, Tensor)]) -> Result<(Vec<Tensor>, bool), Error> {
        let mut rounds = 0;
        loop {
            let (outputs, found) = self.compiled().await?.run_checked(inputs).await?;
            let mut large = self.without_infinite(found);
            if rounds == 0 && !large.is_empty() {
                // f16 shows where an infinity arises, and nothing behind it; f32 shows all that is too large.
                self.compiled = None;
                let (_, all) =
                    self.compile(Precision::F32, &mut |_, _| {}).await?.run_checked(inputs).await?;
                large.extend(self.without_infinite(all));
                large.retain(|tensor| !self.infinite.contains(&tensor.path));
            }
            if large.is_empty() || rounds == MAX_ROUNDS {
                for tensor in &large {
                    log::warn!("{tensor}, and {MAX_ROUNDS} attempts to run its op in f32 were not enough");
                }
                self.compiled().await?;
                self.settled = true;
                return Ok((outputs, rounds > 0));
            }
            let mut named = BTreeSet::new();
            for tensor in large {
                if named.insert((tensor.path.clone(), tensor.op, tensor.output)) {
                    log::warn!("{tensor}: it does not fit f16, and its op runs in f32");
                }
                self.kept.extend(tensor.keep_f32.difference(&self.keep_f32).cloned());
                self.keep_f32.extend(tensor.keep_f32);
            }
            self.compiled = None;
            rounds += 1;
        }
    }

    /// Those that f32 can help: it holds them, and their nodes do not all run in it yet.
    fn without_infinite(&mut self, mut found: Vec<OutOfRange>) -> Vec<OutOfRange> {
        for tensor in found.iter().filter(|tensor| tensor.excess.in_f32()) {
            if self.infinite.insert(tensor.path.clone()) {
                log::warn!("{tensor}, which no precision helps");
            }
        }
        found.retain(|tensor| !tensor.excess.in_f32() && !tensor.keep_f32.is_subset(&self.keep_f32));
        found
    }

    /// Paths of the nodes that run in f32 because a tensor of theirs left f16's range, those that were given from the start
    /// left out.
    pub fn kept_f32(&self) -> &BTreeSet<String> {
        &self.kept
    }

    /// The session, where a GPU computes.
    pub fn session(&self) -> Option<&Session> {
        match &self.compiled {
            Some(Compiled::Gpu(session)) => Some(session),
            _ => None,
        }
    }
}

impl Compiled {
    async fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        match self {
            Compiled::Cpu(interpreter, types) => Ok(widened(interpreter.run(inputs)?, types)),
            Compiled::Gpu(session) => Ok(session.run(inputs).await?),
        }
    }

    async fn set_state(&mut self, name: &str, tensor: &Tensor) -> Result<(), Error> {
        match self {
            Compiled::Cpu(interpreter, _) => Ok(interpreter.set_state(name, tensor)?),
            Compiled::Gpu(session) => Ok(session.set_state(name, tensor).await?),
        }
    }

    async fn run_checked(
        &mut self,
        inputs: &[(&str, Tensor)],
    ) -> Result<(Vec<Tensor>, Vec<OutOfRange>), Error> {
        match self {
            Compiled::Cpu(interpreter, types) => {
                let (outputs, found) = interpreter.run_checked(inputs)?;
                Ok((widened(outputs, types), found))
            }
            Compiled::Gpu(session) => Ok(session.run_checked(inputs).await?),
        }
    }
}

fn widened(outputs: Vec<Tensor>, types: &[DType]) -> Vec<Tensor> {
    outputs.iter().zip(types).map(|(tensor, &dtype)| tensor.cast(dtype)).collect()
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.dtype().is_float() || tensor.to_f32().iter().all(|v| v.is_finite())
}
