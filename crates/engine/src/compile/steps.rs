//! Steps as instructions: copies, packed constants, and dispatches with what they bind.

use std::collections::HashMap;

use kiln_graph::{Dispatch, Io, Node, OpError, Source, Value};

use super::{Command, Compiler, Copy, Instruction, Region, Step, StepInfo};
use crate::Error;
use crate::reflect::BindingKind;

/// What has been assembled so far.
#[derive(Default)]
pub(super) struct Builder {
    pub instructions: Vec<Instruction>,
    pub infos: Vec<StepInfo>,
}

impl<'a> Compiler<'a> {
    pub(super) async fn add_step(
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
            offered: step.offered.clone(),
            shapes: shapes.join(" "),
            flops: node.op.flops(&io),
            bytes: node.op.bytes(&io),
            results: node
                .outputs
                .iter()
                .filter_map(|out| Some((*out, self.regions.get(out)?.clone())))
                .collect(),
        });
        if step.launch.dispatches.is_empty() {
            return Ok(());
        }
        for &(input, output) in node.op.starts_as() {
            let copy = Copy {
                from: self.resolve(node.inputs[input]).await?,
                to: self.resolve(node.outputs[output]).await?,
            };
            // An output that takes over its state's buffer is there already.
            if copy.from.buffer != copy.to.buffer {
                builder.instructions.push(Instruction::Copy(copy));
            }
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
}
