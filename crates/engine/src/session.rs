//! Sessions: a compiled graph that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_graph::{DType, Graph, GraphError, Tensor, WeightSource, passes};

use crate::compile::{Compiled, GUARD, Instruction, compile};
use crate::profile::{Profile, ProfileRow};
use crate::run::{SUBMIT_SECONDS, estimate, write};
use crate::snapshot::Snapshot;
use crate::{CompileOptions, CompileTimes, Error, Gpu, Precision};

/// Stops a run between submits, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks every run that was given this to stop with [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Bytes that a session holds on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Weights and what was computed from them.
    pub weights: u64,
    /// Pooled buffers of activations.
    pub pool: u64,
    /// Number of pooled buffers.
    pub pool_buffers: usize,
    /// States, parameters, tables and the read-back buffer.
    pub other: u64,
    /// The most bytes of activations alive at once: no plan can do with a smaller pool.
    pub lower_bound: u64,
}

impl MemoryReport {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.pool + self.other
    }
}

/// A graph compiled for a device. It runs any number of times; states keep their content from run to run.
#[derive(Debug)]
pub struct Session {
    pub(crate) gpu: Gpu,
    pub(crate) graph: Graph,
    pub(crate) compiled: Compiled,
    guarded_pool: bool,
    /// Types of the outputs as the graph was given; activations in f16 are widened on the way out.
    outputs: Vec<DType>,
}

impl Session {
    /// Compiles a graph: runs the passes, loads the weights it needs one by one, plans memory, builds pipelines.
    /// `progress` hears of (done, in all) of pipelines and steps.
    pub async fn compile(
        gpu: &Gpu,
        graph: &Graph,
        weights: &dyn WeightSource,
        options: &CompileOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let outputs = graph.outputs().iter().map(|&(_, value)| graph.desc(value).dtype).collect();
        let graph = match options.precision {
            Precision::F32 => graph.clone(),
            Precision::F16 if gpu.tier().f16 => passes::to_f16(graph, &options.keep_f32)?,
            Precision::F16 => {
                let (device, feature) = (gpu.info().name.clone(), "16-bit floats (shader-f16)".into());
                return Err(Error::Unsupported { device, feature });
            }
        };
        let graph = if options.fuse { passes::optimise(graph)? } else { graph };
        let compiled = compile(gpu, &graph, weights, options, progress).await?;
        Ok(Self { gpu: gpu.clone(), graph, compiled, guarded_pool: options.guard, outputs })
    }

    /// The graph as it runs, after the passes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes held on the device.
    pub fn memory(&self) -> MemoryReport {
        self.compiled.memory
    }

    /// Where compiling it spent its time.
    pub fn compile_times(&self) -> CompileTimes {
        self.compiled.times
    }

    /// Number of dispatches of a run.
    pub fn dispatches(&self) -> usize {
        self.compiled.instructions.iter().filter(|i| matches!(i, Instruction::Run(_))).count()
    }

    /// Computes the outputs, in the graph's order. Where there are none, it returns before the device has finished.
    pub async fn run(&self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        self.run_with(inputs, &Cancel::default()).await
    }

    /// Computes the outputs unless it is cancelled before.
    pub async fn run_with(&self, inputs: &[(&str, Tensor)], cancel: &Cancel) -> Result<Vec<Tensor>, Error> {
        self.execute(inputs, cancel, &self.compiled.instructions).await
    }

    /// Runs these instructions between the inputs and the outputs.
    pub(crate) async fn execute(
        &self,
        inputs: &[(&str, Tensor)],
        cancel: &Cancel,
        instructions: &[Instruction],
    ) -> Result<Vec<Tensor>, Error> {
        self.gpu.guarded.check()?;
        if self.guarded_pool {
            self.fill_pool().await?;
        }
        self.write_inputs(inputs).await?;
        let device = &self.gpu.guarded.device;
        let mut encoder = device.create_command_encoder(&Default::default());
        let (mut pass, mut seconds) = (None, 0.0);
        for instruction in instructions {
            match instruction {
                Instruction::Run(command) => {
                    let estimate = estimate(&self.gpu, &self.compiled.steps[command.step]) * command.share;
                    if seconds > 0.0 && seconds + estimate > SUBMIT_SECONDS {
                        drop(pass.take());
                        cancel.check()?;
                        let next = device.create_command_encoder(&Default::default());
                        self.gpu.guarded.submit(std::mem::replace(&mut encoder, next).finish()).await?;
                        seconds = 0.0;
                    }
                    seconds += estimate;
                    let pass = pass.get_or_insert_with(|| {
                        encoder.begin_compute_pass(&Default::default()).forget_lifetime()
                    });
                    pass.set_pipeline(&command.pipeline.pipeline);
                    pass.set_bind_group(0, &command.bind_group, &[]);
                    let [x, y, z] = command.grid;
                    pass.dispatch_workgroups(x, y, z);
                }
                Instruction::Copy(copy) => {
                    drop(pass.take());
                    copy.encode(&mut encoder);
                }
            }
        }
        drop(pass);
        cancel.check()?;
        let mut offset = 0;
        for (_, _, region) in &self.compiled.outputs {
            let staging = &self.compiled.staging;
            encoder.copy_buffer_to_buffer(&region.buffer, region.offset, staging, offset, region.bytes);
            offset += region.bytes;
        }
        for copy in &self.compiled.updates {
            copy.encode(&mut encoder);
        }
        self.gpu.guarded.submit(encoder.finish()).await?;
        let bytes = match self.compiled.outputs.is_empty() {
            true => Vec::new(),
            false => self.gpu.guarded.read(&self.compiled.staging).await?,
        };
        if self.guarded_pool {
            self.check_pool().await?;
        }
        let mut offset = 0;
        let mut outputs = Vec::new();
        for ((name, value, region), dtype) in self.compiled.outputs.iter().zip(&self.outputs) {
            let desc = self.graph.desc(*value);
            let own = bytes.get(offset..offset + desc.bytes()).unwrap_or_default();
            let tensor = Tensor::from_bytes(desc, own).map_err(|error| GraphError::Value {
                what: "output",
                name: name.clone(),
                reason: error.to_string(),
            })?;
            outputs.push(tensor.cast(*dtype));
            offset += region.bytes as usize;
        }
        Ok(outputs)
    }

    async fn write_inputs(&self, inputs: &[(&str, Tensor)]) -> Result<(), Error> {
        for (name, value, region) in &self.compiled.inputs {
            let given = inputs.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor);
            let tensor = self.graph.check_input(name, *value, given)?;
            write(&self.gpu, &region.buffer, region.offset, tensor.as_bytes()).await?;
        }
        Ok(())
    }

    /// Sets the states back to zeros.
    pub async fn reset(&self) -> Result<(), Error> {
        let mut encoder = self.gpu.guarded.device.create_command_encoder(&Default::default());
        for (_, _, state) in &self.compiled.states {
            encoder.clear_buffer(&state.buffer, state.offset, Some(state.bytes));
        }
        self.gpu.guarded.submit(encoder.finish()).await.map(|_| ())
    }

    /// Gives a state its content for the next run: first latents, a cache that was kept.
    pub async fn set_state(&self, name: &str, tensor: &Tensor) -> Result<(), Error> {
        let tensor = self.graph.check_state(name, tensor)?;
        match self.compiled.states.iter().find(|(other, ..)| other == name) {
            Some((_, _, region)) => write(&self.gpu, &region.buffer, region.offset, tensor.as_bytes()).await,
            None => Ok(()),
        }
    }

    /// What a state holds after the runs so far.
    pub async fn state(&self, name: &str) -> Result<Tensor, Error> {
        self.snapshot(name).await?.read().await
    }

    /// What a state holds after the runs so far, to be read later. A graph without outputs is not waited for when it runs, so
    /// that the next run can be prepared meanwhile; whoever runs many keeps in step by reading what the last one left.
    pub async fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let unknown =
            || GraphError::Value { what: "state", name: name.into(), reason: "there is none".into() };
        let found = self.compiled.states.iter().find(|(other, ..)| other == name);
        let (_, value, region) = found.ok_or_else(unknown)?;
        Snapshot::take(&self.gpu.guarded, name, self.graph.desc(*value), region).await
    }

    /// Runs once and times each node: by timestamps where the device has them, else by the host's clock around a
    /// submit a node.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn profile(&self, inputs: &[(&str, Tensor)]) -> Result<Profile, Error> {
        self.write_inputs(inputs).await?;
        self.gpu.guarded.finish().await?;
        self.time().await
    }

    /// [`Session::profile`] on what the inputs' buffers hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn time(&self) -> Result<Profile, Error> {
        let mut rows: Vec<ProfileRow> = self
            .compiled
            .steps
            .iter()
            .map(|step| ProfileRow {
                path: step.path.clone(),
                op: step.op,
                launch: step.launch,
                offered: step.offered.clone(),
                shapes: step.shapes.clone(),
                flops: step.flops,
                bytes: step.bytes,
                seconds: 0.0,
                dispatches: 0,
            })
            .collect();
        let timestamps = self.gpu.tier().timestamps;
        let device = &self.gpu.guarded.device;
        // Each dispatch is its own submit, so that even a long run of them fits in one small query set.
        let queries = timestamps.then(|| {
            let descriptor =
                wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 };
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let buffer = |usage| {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: 16,
                    usage,
                    mapped_at_creation: false,
                })
            };
            let staging = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            (device.create_query_set(&descriptor), buffer(usage), buffer(staging))
        });
        for instruction in &self.compiled.instructions {
            let mut encoder = device.create_command_encoder(&Default::default());
            let command = match instruction {
                Instruction::Run(command) => command,
                Instruction::Copy(copy) => {
                    copy.encode(&mut encoder);
                    self.gpu.guarded.submit(encoder.finish()).await?;
                    continue;
                }
            };
            let writes = queries.as_ref().map(|(set, _, _)| wgpu::ComputePassTimestampWrites {
                query_set: set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes });
            pass.set_pipeline(&command.pipeline.pipeline);
            pass.set_bind_group(0, &command.bind_group, &[]);
            let [x, y, z] = command.grid;
            pass.dispatch_workgroups(x, y, z);
            drop(pass);
            if let Some((set, resolved, staging)) = &queries {
                encoder.resolve_query_set(set, 0..2, resolved, 0);
                encoder.copy_buffer_to_buffer(resolved, 0, staging, 0, 16);
            }
            let start = std::time::Instant::now();
            self.gpu.guarded.submit(encoder.finish()).await?;
            let seconds = match &queries {
                Some((_, _, staging)) => {
                    let bytes = self.gpu.guarded.read(staging).await?;
                    let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes[..16]);
                    let period = f64::from(self.gpu.guarded.queue.get_timestamp_period());
                    ticks[1].saturating_sub(ticks[0]) as f64 * period * 1e-9
                }
                None => {
                    self.gpu.guarded.finish().await?;
                    start.elapsed().as_secs_f64()
                }
            };
            rows[command.step].seconds += seconds;
            rows[command.step].dispatches += 1;
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        for copy in &self.compiled.updates {
            copy.encode(&mut encoder);
        }
        self.gpu.guarded.submit(encoder.finish()).await?;
        rows.retain(|row| row.dispatches > 0);
        Ok(Profile { rows, timestamps })
    }

    /// Fills the pool with NaN (of f32 and of f16) and puts sentinels around what is bound.
    async fn fill_pool(&self) -> Result<(), Error> {
        for (buffer, bytes) in &self.compiled.pool {
            let mut content = vec![0xA5; GUARD as usize];
            content.resize((GUARD + bytes) as usize, 0xFF);
            content.resize((2 * GUARD + bytes) as usize, 0xA5);
            write(&self.gpu, buffer, 0, &content).await?;
        }
        Ok(())
    }

    /// Checks the sentinels.
    async fn check_pool(&self) -> Result<(), Error> {
        let device = &self.gpu.guarded.device;
        for (buffer, bytes) in &self.compiled.pool {
            let staging = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("sentinels"),
                size: 2 * GUARD,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, GUARD);
            encoder.copy_buffer_to_buffer(buffer, GUARD + bytes, &staging, GUARD, GUARD);
            self.gpu.guarded.submit(encoder.finish()).await?;
            let content = self.gpu.guarded.read(&staging).await?;
            if content.iter().any(|&byte| byte != 0xA5) {
                let message = "a kernel wrote outside of its buffer: the sentinels around it changed";
                return Err(Error::Validation(message.into()));
            }
        }
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Session {
    /// [`Session::compile`] for callers without an executor.
    pub fn compile_blocking(
        gpu: &Gpu,
        graph: &Graph,
        weights: &dyn WeightSource,
        options: &CompileOptions,
    ) -> Result<Self, Error> {
        pollster::block_on(Self::compile(gpu, graph, weights, options, &mut |_, _| {}))
    }

    /// [`Session::run`] for callers without an executor.
    pub fn run_blocking(&self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        pollster::block_on(self.run(inputs))
    }

    /// [`Session::profile`] for callers without an executor.
    pub fn profile_blocking(&self, inputs: &[(&str, Tensor)]) -> Result<Profile, Error> {
        pollster::block_on(self.profile(inputs))
    }
}
