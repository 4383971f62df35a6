//! Where values lie: buffers shared by values that do not live at the same time, within the device's limits.

use std::collections::HashMap;

use kiln_graph::memory::{Need, Placement, place};
use kiln_graph::{Source, Value};

use super::{Compiler, Step, padded};
use crate::Error;

/// Values and scratch placed in buffers.
pub(super) struct Planned {
    pub placement: Placement,
    /// Which need each value is.
    pub need_of: HashMap<Value, usize>,
    pub lower_bound: u64,
}

impl Compiler<'_> {
    #[allow(clippy::type_complexity)]
    pub(super) fn plan(&self, steps: &[Step]) -> Result<(Planned, Vec<Vec<(usize, u64)>>), Error> {
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
    pub(super) fn check_sizes(&self, steps: &[Step]) -> Result<(), Error> {
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
}
