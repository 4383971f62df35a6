//! From a graph to steps on a device: constants folded and uploaded, launches chosen, memory planned, bindings made.

use std::collections::HashMap;

use kiln_graph::memory::{Need, Placement, place};
use kiln_graph::{
    ConstantFolder, Dispatch, Graph, GraphError, Io, Launch, Node, OpError, Origin, Source, Tensor, Value,
    WeightSource,
};

use crate::reflect::BindingKind;
use crate::{CompileOptions, Error, Gpu};

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
#[derive(Debug)]
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
#[derive(Debug)]
pub(crate) struct Copy {
    pub from: Region,
    pub to: Region,
}

/// What is encoded, in order.
#[derive(Debug)]
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
    pub shapes: String,
    pub flops: u64,
    pub bytes: u64,
}

/// A compiled graph.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub instructions: Vec<Instruction>,
    pub steps: Vec<StepInfo>,
    pub inputs: Vec<(String, Value, Region)>,
    pub outputs: Vec<(String, Value, Region)>,
    pub states: Vec<Region>,
    pub staging: wgpu::Buffer,
    /// Pooled buffers with the bytes each of them is bound for; guarded ones have sentinels around those.
    pub pool: Vec<(wgpu::Buffer, u64)>,
    pub memory: crate::MemoryReport,
}

/// Bytes a value takes in a buffer.
pub(crate) fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(16).max(16)
}

/// A node with the launch that was chosen for it.
struct Step<'a> {
    node: &'a Node,
    launch: Launch,
}

struct Compiler<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    options: &'a CompileOptions,
    constant: Vec<bool>,
    /// What each value's bytes are: itself, or the value it is a view of.
    root: Vec<Value>,
    regions: HashMap<Value, Region>,
    folder: ConstantFolder<'a>,
    /// Bytes of constants, and of everything else that is not pooled.
    weight_bytes: u64,
    other_bytes: u64,
    /// Bytes written since the device was last waited for.
    pending: u64,
}

/// Bytes of uploads in flight: the driver layer keeps a copy of each until it is done.
const MAX_PENDING: u64 = 64 << 20;

/// Compiles a graph for a device.
pub(crate) async fn compile(
    gpu: &Gpu,
    graph: &Graph,
    weights: &dyn WeightSource,
    options: &CompileOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Compiled, Error> {
    let mut compiler = Compiler {
        gpu,
        graph,
        options,
        constant: graph.constants(),
        root: Vec::new(),
        regions: HashMap::new(),
        folder: ConstantFolder::new(graph, weights),
        weight_bytes: 0,
        other_bytes: 0,
        pending: 0,
    };
    compiler.find_roots();
    compiler.take_over_states();
    let steps = compiler.choose_launches()?;
    compiler.compile(steps, progress).await
}

impl<'a> Compiler<'a> {
    fn find_roots(&mut self) {
        self.root = (0..self.graph.values().len()).map(|i| self.graph_value(i)).collect();
        for node in self.graph.nodes() {
            if node.op.is_view()
                && node.epilogue.is_empty()
                && let ([input, ..], [output, ..]) = (&node.inputs[..], &node.outputs[..])
                && !self.constant[input.index()]
            {
                self.root[output.index()] = self.root[input.index()];
            }
        }
    }

    /// A state's new value takes over the state's own buffer where the op that makes it starts from it (a cache that is
    /// appended to) and nobody reads the old content afterwards.
    fn take_over_states(&mut self) {
        let graph = self.graph;
        let mut last_read = vec![0; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            for input in &node.inputs {
                last_read[self.root[input.index()].index()] = i;
            }
        }
        for (_, value) in graph.outputs() {
            last_read[self.root[value.index()].index()] = usize::MAX;
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            for &(input, output) in node.op.starts_as() {
                let (Some(&old), Some(&new)) = (node.inputs.get(input), node.outputs.get(output)) else {
                    continue;
                };
                let state = self.root[old.index()];
                if graph.updates().contains(&(state, new)) && last_read[state.index()] == i {
                    self.root[new.index()] = state;
                }
            }
        }
    }

    fn graph_value(&self, index: usize) -> Value {
        // Values are handed out in order, so an index names one.
        Value::at(index)
    }

    /// Nodes that run on the device, with a launch each. Nodes whose results nobody reads are left out.
    fn choose_launches(&self) -> Result<Vec<Step<'a>>, Error> {
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
        let launches =
            node.op.launches(&io, self.gpu.tier()).map_err(|error| Error::op(&node.path, error))?;
        let named =
            self.options.launch.as_ref().and_then(|name| launches.iter().position(|l| l.name == *name));
        launches.into_iter().nth(named.unwrap_or(0)).ok_or_else(|| {
            Error::op(&node.path, OpError::new(node.op.name(), &inputs, "has no kernel for this device"))
        })
    }

    async fn compile(
        mut self,
        steps: Vec<Step<'a>>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Compiled, Error> {
        let (placement, scratch) = self.plan(&steps)?;
        self.check_sizes(&steps)?;
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
        for (_, value) in self.graph.states() {
            let state = self.whole("state", padded(self.graph.desc(value).bytes()), STORAGE).await?;
            self.other_bytes += state.bytes;
            states.push(state.clone());
            self.regions.insert(value, state);
        }
        for value in 0..self.root.len() {
            let root = self.root[value];
            if let Some(region) = self.regions.get(&root).cloned() {
                self.regions.insert(self.graph_value(value), region);
            }
        }
        let mut builder = Builder { instructions: Vec::new(), infos: Vec::new() };
        let total = steps.len();
        let mut packed: HashMap<(Value, String), Region> = HashMap::new();
        for (index, step) in steps.iter().enumerate() {
            let own_scratch: Vec<Region> =
                scratch[index].iter().map(|&(need, bytes)| region(need, bytes)).collect();
            self.add_step(&mut builder, &mut packed, index, step, &own_scratch).await?;
            progress(index + 1, total);
        }
        for &(state, value) in self.graph.updates() {
            let (from, to) = (self.resolve(value).await?, self.resolve(state).await?);
            if from.buffer != to.buffer {
                builder.instructions.push(Instruction::Copy(Copy { from, to }));
            }
        }
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
            steps: builder.infos,
            inputs,
            outputs,
            states,
            staging,
            pool,
            memory,
        })
    }

    /// Places every value and scratch buffer that steps write or that a run's inputs fill.
    #[allow(clippy::type_complexity)]
    fn plan(&self, steps: &[Step]) -> Result<(Planned, Vec<Vec<(usize, u64)>>), Error> {
        let graph = self.graph;
        let mut needs: Vec<Need> = Vec::new();
        let mut need_of: HashMap<Value, usize> = HashMap::new();
        let mut scratch = Vec::new();
        let last = steps.len() + 1;
        for (_, value) in graph.inputs() {
            need_of.insert(value, needs.len());
            needs.push(Need { bytes: padded(graph.desc(value).bytes()), first: 0, last: 0 });
        }
        for (index, step) in steps.iter().enumerate() {
            // Step 0 is the upload of the inputs.
            let now = index + 1;
            for input in &step.node.inputs {
                if let Some(&need) = need_of.get(&self.root[input.index()]) {
                    needs[need].last = now;
                }
            }
            for output in &step.node.outputs {
                if self.root[output.index()] != *output {
                    continue;
                }
                need_of.insert(*output, needs.len());
                needs.push(Need { bytes: padded(graph.desc(*output).bytes()), first: now, last: now });
            }
            let mut own = Vec::new();
            for &bytes in &step.launch.scratch {
                let bytes = bytes.next_multiple_of(16).max(16);
                own.push((needs.len(), bytes));
                needs.push(Need { bytes, first: now, last: now });
            }
            scratch.push(own);
        }
        let kept = graph.outputs().iter().map(|(_, value)| value);
        for value in kept.chain(graph.updates().iter().map(|(_, value)| value)) {
            if let Some(&need) = need_of.get(&self.root[value.index()]) {
                needs[need].last = last;
            }
        }
        let lower_bound = kiln_graph::memory::lower_bound(&needs);
        Ok((Planned { placement: place(&needs), need_of, lower_bound }, scratch))
    }

    /// Refuses values that no binding can hold where a launch binds them whole.
    fn check_sizes(&self, steps: &[Step]) -> Result<(), Error> {
        let limits = &self.gpu.tier().limits;
        let limit = limits.max_binding_bytes.min(limits.max_buffer_bytes);
        for step in steps {
            for binding in step.launch.dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
                let whole = match binding.source {
                    Source::Input(i) => step.node.inputs.get(i).map(|v| self.graph.desc(*v).bytes() as u64),
                    Source::Output(i) => step.node.outputs.get(i).map(|v| self.graph.desc(*v).bytes() as u64),
                    Source::Scratch(i) => step.launch.scratch.get(i).copied(),
                    Source::Table(i) => step.launch.tables.get(i).map(|table| table.len() as u64),
                };
                let needed =
                    binding.range.as_ref().map_or(whole.unwrap_or(0), |range| range.end - range.start);
                if needed > limit {
                    return Err(Error::Limit {
                        node: step.node.path.clone(),
                        what: format!("{:?} of {}", binding.name, step.node.op.name()),
                        needed,
                        limit,
                        device: self.gpu.info().name.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    async fn add_step(
        &mut self,
        builder: &mut Builder,
        packed: &mut HashMap<(Value, String), Region>,
        index: usize,
        step: &Step<'a>,
        scratch: &[Region],
    ) -> Result<(), Error> {
        let node = step.node;
        let (input_descs, output_descs) = self.graph.node_descs(node);
        let io = Io { inputs: &input_descs, outputs: &output_descs, constant: &[], epilogue: &node.epilogue };
        let shapes: Vec<String> = input_descs[..node.own_inputs()].iter().map(ToString::to_string).collect();
        builder.infos.push(StepInfo {
            path: node.path.clone(),
            op: node.op.name(),
            launch: step.launch.name,
            shapes: shapes.join(" "),
            flops: node.op.flops(&io),
            bytes: node.op.bytes(&io),
        });
        if step.launch.dispatches.is_empty() {
            return Ok(());
        }
        for &(input, output) in node.op.starts_as() {
            let copy = Copy {
                from: self.resolve(node.inputs[input]).await?,
                to: self.resolve(node.outputs[output]).await?,
            };
            builder.instructions.push(Instruction::Copy(copy));
        }
        let mut tables = Vec::new();
        for table in &step.launch.tables {
            tables.push(self.upload("table", table).await?);
        }
        let mut inputs: Vec<Option<Region>> = vec![None; node.inputs.len()];
        for pack in &step.launch.packs {
            let value = *node.inputs.get(pack.input).ok_or_else(|| {
                Error::op(
                    &node.path,
                    OpError::new(node.op.name(), &input_descs, "packs an input it does not have"),
                )
            })?;
            let key = (value, pack.key.clone());
            if !packed.contains_key(&key) {
                let tensor =
                    (pack.apply)(&self.fold(value)?).map_err(|error| Error::op(&node.path, error))?;
                packed.insert(key.clone(), self.upload_constant(&tensor).await?);
            }
            inputs[pack.input] = packed.get(&key).cloned();
        }
        let total: u64 = step.launch.dispatches.iter().map(|dispatch| dispatch.groups).sum();
        for dispatch in &step.launch.dispatches {
            if dispatch.groups == 0 {
                continue;
            }
            let mut sources = Vec::new();
            for binding in &dispatch.bindings {
                let missing = || Error::Shader {
                    label: node.op.name().into(),
                    message: format!(
                        "{} is bound to {:?}, which the launch does not have",
                        binding.name, binding.source
                    ),
                };
                let region = match binding.source {
                    Source::Input(i) => match inputs.get(i).ok_or_else(missing)? {
                        Some(region) => region.clone(),
                        None => {
                            let region = self.resolve(node.inputs[i]).await?;
                            inputs[i] = Some(region.clone());
                            region
                        }
                    },
                    Source::Output(i) => self.resolve(*node.outputs.get(i).ok_or_else(missing)?).await?,
                    Source::Scratch(i) => scratch.get(i).ok_or_else(missing)?.clone(),
                    Source::Table(i) => tables.get(i).ok_or_else(missing)?.clone(),
                };
                sources.push(region);
            }
            self.add_dispatch(builder, index, node, step.launch.name, dispatch, &sources, total).await?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    async fn add_dispatch(
        &mut self,
        builder: &mut Builder,
        index: usize,
        node: &Node,
        launch: &str,
        dispatch: &Dispatch,
        sources: &[Region],
        total: u64,
    ) -> Result<(), Error> {
        let label = format!("{}-{launch}", node.op.name());
        let pipeline = self.gpu.pipeline(&label, &dispatch.kernel).await?;
        let info = &builder.infos[index];
        let share = dispatch.groups as f64 / total as f64;
        let seconds = crate::run::estimate(self.gpu, info) * share;
        for part in crate::run::cut(dispatch.groups, seconds, self.gpu.tier().limits.max_groups) {
            let mut params = dispatch.params.bytes.clone();
            if params.len() < 8 {
                params.resize(8, 0);
            }
            params[..4].copy_from_slice(&part.first.to_le_bytes());
            params[4..8].copy_from_slice(&part.end.to_le_bytes());
            let params = self.upload_uniform(&params).await?;
            let mut entries = Vec::new();
            for variable in &pipeline.reflection.variables {
                let bound = dispatch.bindings.iter().position(|binding| binding.name == variable.name);
                let resource = match (variable.kind, bound) {
                    (BindingKind::Uniform, _) => params.as_entire_binding(),
                    (_, Some(i)) => {
                        let (region, binding) = (&sources[i], &dispatch.bindings[i]);
                        let (offset, bytes) = match &binding.range {
                            Some(range) => (range.start, (range.end - range.start).next_multiple_of(4)),
                            None => (0, region.bytes),
                        };
                        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer: &region.buffer,
                            offset: region.offset + offset,
                            size: std::num::NonZeroU64::new(bytes),
                        })
                    }
                    (_, None) => {
                        let message = format!("nothing is bound to {}", variable.name);
                        return Err(Error::Shader { label, message });
                    }
                };
                entries.push(wgpu::BindGroupEntry { binding: variable.binding, resource });
            }
            let descriptor = wgpu::BindGroupDescriptor {
                label: Some(&label),
                layout: &pipeline.layout,
                entries: &entries,
            };
            let bind_group = self.gpu.guarded.scoped(|device| device.create_bind_group(&descriptor)).await?;
            builder.instructions.push(Instruction::Run(Command {
                pipeline: pipeline.clone(),
                bind_group,
                grid: part.grid,
                step: index,
                share: share * part.share,
            }));
        }
        Ok(())
    }

    /// The region of a value; constants are computed and uploaded when first asked for.
    async fn resolve(&mut self, value: Value) -> Result<Region, Error> {
        if let Some(region) = self.regions.get(&value) {
            return Ok(region.clone());
        }
        if !self.constant[value.index()] {
            let (name, reason) = (format!("{value:?}"), "was not planned".to_string());
            return Err(GraphError::Value { what: "value", name, reason }.into());
        }
        let region = self.upload_constant(&self.fold(value)?).await?;
        self.regions.insert(value, region.clone());
        Ok(region)
    }

    fn fold(&self, value: Value) -> Result<Tensor, Error> {
        let tensor = self.folder.value(value)?;
        if let Origin::Weight(name) = &self.graph.info(value).origin {
            log::debug!("loaded {name} {}", tensor.desc());
        }
        Ok(tensor)
    }

    async fn upload_constant(&mut self, tensor: &Tensor) -> Result<Region, Error> {
        let region = self.whole("constant", padded(tensor.as_bytes().len()), STORAGE).await?;
        self.weight_bytes += region.bytes;
        self.write(&region.buffer, tensor.as_bytes()).await?;
        Ok(region)
    }

    async fn upload(&mut self, label: &str, bytes: &[u8]) -> Result<Region, Error> {
        let region = self.whole(label, padded(bytes.len()), STORAGE).await?;
        self.other_bytes += region.bytes;
        self.write(&region.buffer, bytes).await?;
        Ok(region)
    }

    async fn upload_uniform(&mut self, bytes: &[u8]) -> Result<wgpu::Buffer, Error> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let region = self.whole("params", padded(bytes.len()), usage).await?;
        self.other_bytes += region.bytes;
        self.write(&region.buffer, bytes).await?;
        Ok(region.buffer)
    }

    async fn write(&mut self, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<(), Error> {
        crate::run::write(self.gpu, buffer, 0, bytes).await?;
        self.pending += bytes.len() as u64;
        if self.pending > MAX_PENDING {
            self.pending = 0;
            let encoder = self.gpu.guarded.device.create_command_encoder(&Default::default());
            self.gpu.guarded.submit(encoder.finish()).await?;
            self.gpu.guarded.finish().await?;
        }
        Ok(())
    }

    async fn whole(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<Region, Error> {
        Ok(Region { buffer: self.buffer(label, bytes, usage).await?, offset: 0, bytes })
    }

    async fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        let limit = self.gpu.tier().limits.max_buffer_bytes;
        if bytes > limit {
            return Err(Error::Limit {
                node: label.to_string(),
                what: "a buffer".into(),
                needed: bytes,
                limit,
                device: self.gpu.info().name.clone(),
            });
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        self.gpu.guarded.scoped(|device| device.create_buffer(&descriptor)).await
    }
}

struct Builder {
    instructions: Vec<Instruction>,
    infos: Vec<StepInfo>,
}

struct Planned {
    placement: Placement,
    need_of: HashMap<Value, usize>,
    lower_bound: u64,
}

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);
