//! Finds the tensors of a run that leave f16's range.

use std::collections::HashMap;

use kiln_graph::range::{self, Excess, OutOfRange, out_of_range};
use kiln_graph::{Dispatch, Source, Tensor, Value};

use crate::compile::{Command, Instruction, Region};
use crate::reflect::BindingKind;
use crate::run::{cut, write};
use crate::{Cancel, Error, Session};

impl Session {
    /// Runs like [`Session::run`], and says which tensors are to blame where some leave the range of f16: in a session of
    /// f16, those that are stored in it and do not fit; in one of f32, those that would not. See [`kiln_graph::range`].
    ///
    /// Looking costs about a pass over all activations.
    pub async fn run_checked(
        &self,
        inputs: &[(&str, Tensor)],
    ) -> Result<(Vec<Tensor>, Vec<OutOfRange>), Error> {
        let mut found = self.compiled.excess.clone();
        let limit = range::limit(&self.graph);
        for (name, value, _) in &self.compiled.inputs {
            let given = inputs.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor);
            found.insert(*value, Excess::of(&self.graph.check_input(name, *value, given)?, limit));
        }
        let (instructions, scanned, words) = self.with_scans(limit).await?;
        let outputs = self.execute(inputs, &Cancel::default(), &instructions).await?;
        let bytes = self.read_words(&words).await?;
        for (value, word) in scanned.into_iter().zip(bytes.chunks_exact(4)) {
            let bits = word.try_into().map_or(0, u32::from_le_bytes);
            found.insert(value, Excess::from_bits(bits));
        }
        Ok((outputs, out_of_range(&self.graph, &found)))
    }

    /// The run's instructions with a look at each step's results behind it and at the states in front; the values that
    /// are looked at, and a word of what is found for each.
    async fn with_scans(&self, limit: f32) -> Result<(Vec<Instruction>, Vec<Value>, Region), Error> {
        let compiled = &self.compiled;
        let results = compiled.steps.iter().map(|step| step.results.len()).sum::<usize>();
        let bytes = 4 * (results + compiled.states.len()).max(1) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let words = Region { buffer: self.buffer("range", bytes, usage).await?, offset: 0, bytes };
        let mut last = HashMap::new();
        for (i, instruction) in compiled.instructions.iter().enumerate() {
            if let Instruction::Run(command) = instruction {
                last.insert(command.step, i);
            }
        }
        let (mut instructions, mut scanned) = (Vec::new(), Vec::new());
        // Without a step nothing reads them.
        for (_, value, region) in compiled.states.iter().filter(|_| !compiled.steps.is_empty()) {
            self.scan(&mut instructions, &mut scanned, (*value, region), &words, limit, 0).await?;
        }
        for (i, instruction) in compiled.instructions.iter().enumerate() {
            instructions.push(instruction.clone());
            let Instruction::Run(command) = instruction else { continue };
            let Some(step) = compiled.steps.get(command.step).filter(|_| last.get(&command.step) == Some(&i))
            else {
                continue;
            };
            for (value, region) in &step.results {
                let of = (*value, region);
                self.scan(&mut instructions, &mut scanned, of, &words, limit, command.step).await?;
            }
        }
        Ok((instructions, scanned, words))
    }

    /// Adds what looks at a value, in parts that a binding may have.
    async fn scan(
        &self,
        instructions: &mut Vec<Instruction>,
        scanned: &mut Vec<Value>,
        (value, region): (Value, &Region),
        words: &Region,
        limit: f32,
        step: usize,
    ) -> Result<(), Error> {
        let (desc, tier) = (self.graph.desc(value), self.gpu.tier());
        if !desc.dtype.is_float() || desc.is_empty() {
            return Ok(());
        }
        let slot = scanned.len() as u32;
        scanned.push(value);
        let alignment = u64::from(tier.limits.offset_alignment.max(256));
        let most = (tier.limits.max_binding_bytes / alignment * alignment).max(alignment);
        for start in (0..region.bytes).step_by(most as usize) {
            let bytes = most.min(region.bytes - start);
            let part = Region { buffer: region.buffer.clone(), offset: region.offset + start, bytes };
            let size = desc.dtype.size() as u64;
            let len = (desc.len() as u64).saturating_sub(start / size).min(bytes / size);
            let dispatch = range::scan(desc.dtype, len as usize, slot, limit, tier);
            for command in self.commands(&dispatch, &part, words, step).await? {
                instructions.push(Instruction::Run(command));
            }
        }
        Ok(())
    }

    async fn commands(
        &self,
        dispatch: &Dispatch,
        x: &Region,
        found: &Region,
        step: usize,
    ) -> Result<Vec<Command>, Error> {
        let pipeline = self.gpu.pipeline("range", &dispatch.kernel).await?;
        let mut commands = Vec::new();
        // Little work, which no submit is too short for.
        for part in cut(dispatch.groups, 0.0, self.gpu.tier().limits.max_groups) {
            let mut params = dispatch.params.bytes.clone();
            params[..4].copy_from_slice(&part.first.to_le_bytes());
            params[4..8].copy_from_slice(&part.end.to_le_bytes());
            let bytes = params.len().next_multiple_of(16) as u64;
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let uniform = self.buffer("params", bytes, usage).await?;
            write(&self.gpu, &uniform, 0, &params).await?;
            let mut entries = Vec::new();
            for variable in &pipeline.reflection.variables {
                let binding = dispatch.bindings.iter().find(|binding| binding.name == variable.name);
                let resource = match (variable.kind, binding.map(|binding| binding.source)) {
                    (BindingKind::Uniform, _) => uniform.as_entire_binding(),
                    (_, Some(Source::Input(_))) => binding_of(x),
                    _ => binding_of(found),
                };
                entries.push(wgpu::BindGroupEntry { binding: variable.binding, resource });
            }
            let layout = &pipeline.layout;
            let descriptor = wgpu::BindGroupDescriptor { label: Some("range"), layout, entries: &entries };
            let bind_group = self.gpu.guarded.scoped(|device| device.create_bind_group(&descriptor)).await?;
            let pipeline = pipeline.clone();
            commands.push(Command { pipeline, bind_group, grid: part.grid, step, share: 0.0 });
        }
        Ok(commands)
    }

    async fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, Error> {
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.gpu.guarded.scoped(|device| device.create_buffer(&descriptor)).await
    }

    async fn read_words(&self, words: &Region) -> Result<Vec<u8>, Error> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("range", words.bytes, usage).await?;
        let mut encoder = self.gpu.guarded.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&words.buffer, 0, &staging, 0, words.bytes);
        self.gpu.guarded.submit(encoder.finish()).await?;
        self.gpu.guarded.read(&staging).await
    }
}

fn binding_of(region: &Region) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: &region.buffer,
        offset: region.offset,
        size: std::num::NonZeroU64::new(region.bytes),
    })
}

#[cfg(not(target_arch = "wasm32"))]
impl Session {
    /// [`Session::run_checked`] for callers without an executor.
    pub fn run_checked_blocking(
        &self,
        inputs: &[(&str, Tensor)],
    ) -> Result<(Vec<Tensor>, Vec<OutOfRange>), Error> {
        pollster::block_on(self.run_checked(inputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::{DType, Tier};

    #[test]
    fn the_scan_is_valid_and_its_parameters_lie_as_wgsl_lays_them_out() {
        for dtype in [DType::F16, DType::F32] {
            let dispatch = range::scan(dtype, 100, 3, range::LARGEST_F16, &Tier::webgpu());
            let reflection = crate::validate(&dispatch.kernel).unwrap();
            let wgsl: Vec<_> = reflection
                .params
                .iter()
                .map(|field| (field.name.as_str(), field.offset, field.size))
                .collect();
            let host: Vec<_> =
                dispatch.params.fields.iter().map(|field| (field.name, field.offset, field.size)).collect();
            assert_eq!(wgsl, host);
        }
    }
}
