//! Which buffer holds what, when: values whose lifetimes do not overlap share one.
//!
//! Several buffers rather than one arena, since a device's driver layer orders accesses a whole buffer at a time. The
//! assignment is greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).

use std::collections::HashMap;

use crate::{Graph, Io, Node, Tier, Value, launches_in_place_within};

/// A value's need of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes.
    pub bytes: u64,
    /// First step at which it is written.
    pub first: usize,
    /// Last step at which it is read.
    pub last: usize,
}

/// The buffers and who lies in which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// For each need, its buffer.
    pub buffer_of: Vec<usize>,
}

impl Placement {
    /// Bytes of all buffers.
    pub fn total(&self) -> u64 {
        self.buffers.iter().sum()
    }
}

/// Places needs in buffers such that no two that live at one step share one.
pub fn place(needs: &[Need]) -> Placement {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(needs[i].bytes), needs[i].first));
    let mut placement = Placement { buffers: Vec::new(), buffer_of: vec![0; needs.len()] };
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let need = needs[i];
        let free = |tenants: &[usize]| {
            tenants.iter().all(|&other| needs[other].last < need.first || need.last < needs[other].first)
        };
        // Buffers come in falling order of size and all are large enough: the last free one wastes least.
        let buffer = match tenants.iter().rposition(|tenants| free(tenants)) {
            Some(buffer) => buffer,
            None => {
                placement.buffers.push(need.bytes);
                tenants.push(Vec::new());
                tenants.len() - 1
            }
        };
        tenants[buffer].push(i);
        placement.buffer_of[i] = buffer;
    }
    placement
}

/// The least memory that any placement could do with: the most bytes alive at one step.
pub fn lower_bound(needs: &[Need]) -> u64 {
    let steps = needs.iter().map(|need| need.last + 1).max().unwrap_or(0);
    let alive =
        |step: usize| needs.iter().filter(|n| n.first <= step && step <= n.last).map(|n| n.bytes).sum();
    (0..steps).map(alive).max().unwrap_or(0)
}

/// What the values of a graph that depend on its inputs need, a step a node, on a device of this tier: all that a device
/// needs for it but constants and scratch memory.
pub fn needs(graph: &Graph, tier: &Tier) -> Vec<Need> {
    let (constant, uses) = (graph.constants(), graph.uses());
    let mut needs: Vec<Need> = Vec::new();
    let mut need_of: HashMap<Value, usize> = HashMap::new();
    // How often each is still read.
    let mut reads: Vec<usize> = Vec::new();
    let mut values = graph.inputs().map(|(_, value)| (value, 0)).collect::<Vec<_>>();
    for (node, now) in graph.nodes().iter().zip(1..) {
        for (value, first) in values.drain(..) {
            need_of.insert(value, needs.len());
            needs.push(Need { bytes: graph.desc(value).bytes() as u64, first, last: first });
            reads.push(uses[value.index()]);
        }
        for need in node.inputs.iter().filter_map(|input| need_of.get(input)) {
            needs[*need].last = now;
            reads[*need] = reads[*need].saturating_sub(1);
        }
        let memory = node.inputs.first().and_then(|input| need_of.get(input)).copied();
        for &output in node.outputs.iter().filter(|output| !constant[output.index()]) {
            let shared = memory.filter(|&need| {
                let view = node.op.is_view() && node.epilogue.is_empty();
                view || (reads[need] == 0 && works_in_place(graph, node, tier))
            });
            match shared {
                Some(need) => {
                    need_of.insert(output, need);
                    reads[need] += uses[output.index()];
                }
                None => values.push((output, now)),
            }
        }
    }
    for (value, first) in values {
        need_of.insert(value, needs.len());
        needs.push(Need { bytes: graph.desc(value).bytes() as u64, first, last: first });
    }
    for need in graph.outputs().iter().filter_map(|(_, value)| need_of.get(value)) {
        needs[*need].last = graph.nodes().len() + 1;
    }
    needs
}

/// Whether a node can store its result where its first input lies.
fn works_in_place(graph: &Graph, node: &Node, tier: &Tier) -> bool {
    let (inputs, outputs) = graph.node_descs(node);
    let io = Io { inputs: &inputs, outputs: &outputs, constant: &[], epilogue: &node.epilogue };
    let empty = outputs.iter().all(crate::TensorDesc::is_empty);
    !empty && !launches_in_place_within(&*node.op, &io, tier).is_empty()
}

/// Bytes of the constants that a graph's other nodes read.
pub fn constant_bytes(graph: &Graph) -> u64 {
    let constant = graph.constants();
    let mut read = vec![false; constant.len()];
    for node in graph.nodes().iter().filter(|node| node.outputs.iter().any(|out| !constant[out.index()])) {
        node.inputs.iter().for_each(|input| read[input.index()] = constant[input.index()]);
    }
    let values = (0..constant.len()).filter(|&i| read[i]);
    values.map(|i| graph.desc(Value::at(i)).bytes() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;
    use crate::{Builder, DType};

    #[test]
    fn neighbours_in_a_chain_alternate() {
        let needs: Vec<Need> = (0..10).map(|i| Need { bytes: 100, first: i, last: i + 1 }).collect();
        assert_eq!(place(&needs).buffers, [100, 100]);
    }

    #[test]
    fn nothing_alive_together_shares_a_buffer() {
        for seed in 0..50 {
            let random = SplitMix64::new(seed);
            let needs: Vec<Need> = (0..60)
                .map(|i| {
                    let first = (random.bits(3 * i) % 40) as usize;
                    let last = first + (random.bits(3 * i + 1) % 8) as usize;
                    Need { bytes: random.bits(3 * i + 2) % 1000, first, last }
                })
                .collect();
            let placement = place(&needs);
            assert!(placement.total() >= lower_bound(&needs));
            for (i, a) in needs.iter().enumerate() {
                assert!(placement.buffers[placement.buffer_of[i]] >= a.bytes);
                for (j, b) in needs.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    assert!(!together || placement.buffer_of[i] != placement.buffer_of[j]);
                }
            }
        }
    }

    #[test]
    fn graphs_need_what_is_alive_and_norms_work_in_place() {
        let mut b = Builder::new();
        let x = b.input("x", [1, 8, 8, 4], DType::F32).unwrap();
        let weight = b.weight("w", [4, 4, 3, 3]).unwrap();
        let image = crate::ops::Conv2d::default().padding(1);
        let y = b.conv2d(x, weight, None, image).unwrap();
        let first = b.group_norm(y, 2, None, None, 1e-5).unwrap();
        let z = b.conv2d(first, weight, None, image).unwrap();
        // Read again below: it stays beside its norm.
        let second = b.group_norm(z, 2, None, None, 1e-5).unwrap();
        let flat = b.reshape(second, [1, 64, 4]).unwrap();
        let flat = b.neg(flat).unwrap();
        b.output("z", z).unwrap();
        b.output("flat", flat).unwrap();
        let graph = b.finish();
        let (software, gpu) = (Tier { software: true, ..Tier::webgpu() }, Tier::webgpu());
        let of =
            |tier: &Tier| needs(&graph, tier).iter().map(|need| (need.first, need.last)).collect::<Vec<_>>();
        assert_eq!(of(&software), [(0, 1), (1, 3), (3, 7), (4, 6), (6, 7)]);
        // There a group this small is one workgroup's, from one buffer to another.
        assert_eq!(of(&gpu), [(0, 1), (1, 2), (2, 3), (3, 7), (4, 6), (6, 7)]);
        assert_eq!(constant_bytes(&graph), 4 * 4 * 4 * 9);
    }
}
