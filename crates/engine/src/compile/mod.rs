//! From a graph to steps on a device: constants folded and uploaded, launches chosen, memory planned, bindings made.

mod launches;
mod pipelines;
mod plan;
mod roots;
mod steps;
mod updates;
mod upload;

use std::collections::{HashMap, HashSet};

use kiln_graph::range::Excess;
use kiln_graph::{ConstantFolder, Graph, Launch, Node, Value, WeightSource};

use self::pipelines::{build_pipelines, distinct_kernels};
use self::steps::Builder;
use self::upload::STORAGE;
use crate::clock::{Stopwatch, TimedWeights};
use crate::{CompileOptions, CompileTimes, Error, Gpu};

/// Bytes of sentinel on each side of a guarded buffer: the largest offset alignment that WebGPU allows.
pub(crate) const GUARD: u64 = 256;

/// A range of a buffer.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    /// Bytes that are bound: a multiple of 16, so that kernels may load whole vectors.
    pub bytes: u64,
}

/// A dispatch that is ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub pipeline: std::sync::Arc<crate::pipeline::Pipeline>,
    pub bind_group: wgpu::BindGroup,
    pub grid: [u32; 3],
    /// Which step it belongs to.
    pub step: usize,
    /// Share of the step's work, for estimates.
    pub share: f64,
}

/// A copy of a whole value on the device.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub from: Region,
    pub to: Region,
}

impl Copy {
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let (from, to) = (&self.from, &self.to);
        encoder.copy_buffer_to_buffer(&from.buffer, from.offset, &to.buffer, to.offset, to.bytes);
    }
}

/// What is encoded, in order.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    Run(Command),
    Copy(Copy),
}

/// What the profiler and estimates know of a node.
#[derive(Clone, Debug)]
pub(crate) struct StepInfo {
    pub path: String,
    pub op: &'static str,
    pub launch: &'static str,
    pub offered: Vec<&'static str>,
    pub shapes: String,
    pub flops: u64,
    pub bytes: u64,
    /// Where its results are, until a later step needs the room.
    pub results: Vec<(Value, Region)>,
}

/// A compiled graph.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub instructions: Vec<Instruction>,
    /// What follows when the outputs have been read: an output may be a state's old value.
    pub updates: Vec<Copy>,
    pub steps: Vec<StepInfo>,
    pub inputs: Vec<(String, Value, Region)>,
    pub outputs: Vec<(String, Value, Region)>,
    pub states: Vec<(String, Value, Region)>,
    pub staging: wgpu::Buffer,
    /// Pooled buffers with the bytes each of them is bound for; guarded ones have sentinels around those.
    pub pool: Vec<(wgpu::Buffer, u64)>,
    pub memory: crate::MemoryReport,
    pub times: CompileTimes,
    /// What constants in f16 hold beyond its range.
    pub excess: HashMap<Value, Excess>,
}

/// Bytes a value takes in a buffer.
pub(crate) fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(16).max(16)
}

/// A node with the launch that was chosen for it.
struct Step<'a> {
    node: &'a Node,
    launch: Launch,
    /// Names of the launches it was chosen of.
    offered: Vec<&'static str>,
}

struct Compiler<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    options: &'a CompileOptions,
    constant: Vec<bool>,
    /// What each value's bytes are: itself, or the value it is a view of, or whose memory it takes over.
    root: Vec<Value>,
    /// Nodes whose output takes over their input's memory, by their outputs.
    in_place: HashSet<Value>,
    regions: HashMap<Value, Region>,
    folder: ConstantFolder<'a>,
    /// Bytes of constants, and of everything else that is not pooled.
    weight_bytes: u64,
    other_bytes: u64,
    /// Bytes written since the device was last waited for.
    pending: u64,
}

/// Compiles a graph for a device.
pub(crate) async fn compile(
    gpu: &Gpu,
    graph: &Graph,
    weights: &dyn WeightSource,
    options: &CompileOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Compiled, Error> {
    let (watch, weights) = (Stopwatch::start(), TimedWeights::new(weights));
    let mut compiler = Compiler {
        gpu,
        graph,
        options,
        constant: graph.constants(),
        root: Vec::new(),
        in_place: HashSet::new(),
        regions: HashMap::new(),
        folder: ConstantFolder::new(graph, &weights),
        weight_bytes: 0,
        other_bytes: 0,
        pending: 0,
    };
    compiler.find_roots();
    compiler.take_over_states();
    compiler.take_over_inputs();
    let choosing = Stopwatch::start();
    let steps = compiler.choose_launches().await?;
    let tuning = choosing.seconds();
    let mut compiled = compiler.compile(steps, progress).await?;
    let times = &mut compiled.times;
    times.tuning = tuning;
    times.weights = weights.seconds();
    times.packing = watch.seconds() - times.tuning - times.weights - times.pipelines;
    Ok(compiled)
}

impl<'a> Compiler<'a> {
    async fn compile(
        mut self,
        steps: Vec<Step<'a>>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Compiled, Error> {
        let (placement, scratch) = self.plan(&steps)?;
        self.check_sizes(&steps)?;
        let kernels = distinct_kernels(&steps);
        let total = kernels.len() + steps.len();
        let watch = Stopwatch::start();
        build_pipelines(self.gpu, &kernels, &mut |done| progress(done, total)).await?;
        let times = CompileTimes { pipelines: watch.seconds(), ..Default::default() };
        let guard = if self.options.guard { GUARD } else { 0 };
        let mut pool = Vec::new();
        for &bytes in &placement.placement.buffers {
            pool.push((self.buffer("pool", bytes + 2 * guard, STORAGE).await?, bytes));
        }
        let region = |need: usize, bytes: u64| Region {
            buffer: pool[placement.placement.buffer_of[need]].0.clone(),
            offset: guard,
            bytes,
        };
        for (&value, &need) in &placement.need_of {
            self.regions.insert(value, region(need, padded(self.graph.desc(value).bytes())));
        }
        let mut states = Vec::new();
        for (name, value) in self.graph.states() {
            let state = self.whole("state", padded(self.graph.desc(value).bytes()), STORAGE).await?;
            self.other_bytes += state.bytes;
            states.push((name.to_string(), value, state.clone()));
            self.regions.insert(value, state);
        }
        for value in 0..self.root.len() {
            let root = self.root[value];
            if let Some(region) = self.regions.get(&root).cloned() {
                self.regions.insert(Value::at(value), region);
            }
        }
        let mut builder = Builder::default();
        let mut packed: HashMap<(Value, String), Region> = HashMap::new();
        for (index, step) in steps.iter().enumerate() {
            let own_scratch: Vec<Region> =
                scratch[index].iter().map(|&(need, bytes)| region(need, bytes)).collect();
            self.add_step(&mut builder, &mut packed, index, step, &own_scratch).await?;
            progress(kernels.len() + index + 1, total);
        }
        let updates = self.updates().await?;
        let mut inputs = Vec::new();
        for (name, value) in self.graph.inputs() {
            if let Some(region) = self.regions.get(&value) {
                inputs.push((name.to_string(), value, region.clone()));
            }
        }
        let mut outputs = Vec::new();
        for (name, value) in self.graph.outputs() {
            outputs.push((name.clone(), *value, self.resolve(*value).await?));
        }
        let staging_bytes = outputs.iter().map(|(_, _, region)| region.bytes).sum::<u64>().max(16);
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = self.buffer("staging", staging_bytes, usage).await?;
        let memory = crate::MemoryReport {
            weights: self.weight_bytes,
            pool: pool.iter().map(|(buffer, _)| buffer.size()).sum(),
            pool_buffers: pool.len(),
            other: self.other_bytes + staging_bytes,
            lower_bound: placement.lower_bound,
        };
        Ok(Compiled {
            instructions: builder.instructions,
            updates,
            steps: builder.infos,
            inputs,
            outputs,
            states,
            staging,
            pool,
            memory,
            times,
            excess: self.folder.excess(),
        })
    }
}
