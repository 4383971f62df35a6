//! Which parts an op's work is cut into.

use std::ops::Range;

use super::{alignment, fitting, gcd, lcm};
use crate::{Along, Epilogue, Independence, Io, Launch, Op, Spread, Step, TensorDesc, Tier, strides};

/// An op's tensors, described as the parts need it, and the axes that are cut.
pub(super) struct Plan {
    /// The op's inputs, epilogue operands included.
    pub inputs: Vec<TensorDesc>,
    /// The op's outputs.
    pub outputs: Vec<TensorDesc>,
    /// The axes that parts differ in, outermost first.
    axes: Vec<Axis>,
    /// Steps along each axis that a part has.
    steps: Vec<usize>,
}

/// An axis that can be cut, in every tensor.
struct Axis {
    extent: usize,
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
}

/// The op on a box of each tensor.
pub(super) struct Part {
    /// The boxes, a range an axis.
    pub inputs: Vec<Vec<Range<usize>>>,
    /// The boxes, a range an axis.
    pub outputs: Vec<Vec<Range<usize>>>,
}

/// What the op is asked for a part.
#[derive(PartialEq)]
pub(super) struct PartIo {
    pub inputs: Vec<TensorDesc>,
    pub outputs: Vec<TensorDesc>,
    pub constant: Vec<bool>,
    pub epilogue: Epilogue,
}

impl PartIo {
    pub fn io(&self) -> Io<'_> {
        Io {
            inputs: &self.inputs,
            outputs: &self.outputs,
            constant: &self.constant,
            epilogue: &self.epilogue,
        }
    }

    /// The op's launches that can be bound.
    pub fn launches(&self, op: &dyn Op, tier: &Tier) -> Vec<Launch> {
        op.launches(&self.io(), tier).map_or(Vec::new(), |launches| fitting(launches, &self.io(), tier))
    }
}

impl Plan {
    /// The largest parts whose launches can be bound, where there are such.
    pub fn of(op: &dyn Op, io: &Io, tier: &Tier) -> Option<Self> {
        let mut plan = match op.independence(io) {
            Independence::None => return None,
            Independence::Elements => Self::elements(io)?,
            Independence::Axes(axes) => Self::axes(axes, io)?,
        };
        let whole: Vec<usize> = plan.axes.iter().map(|axis| axis.extent).collect();
        let mut candidates: Vec<Vec<usize>> = Vec::new();
        for axis in 0..whole.len() {
            // Every other axis whole; a range of the outermost one is likely one stretch of each tensor.
            plan.steps = whole.clone();
            if plan.lengthen(axis, op, io, tier) {
                candidates.push(plan.steps.clone());
                if axis == 0 {
                    return Some(plan);
                }
            }
        }
        for axis in 1..whole.len() {
            // One step along the axes before, all along those behind: ranges in one stretch.
            plan.steps = whole.clone();
            plan.steps[..axis].fill(1);
            if plan.lengthen(axis, op, io, tier) {
                candidates.push(plan.steps.clone());
                // The same with more steps along the axes before: blocks, for what is read again for each part.
                (0..axis).rev().for_each(|outer| {
                    plan.lengthen(outer, op, io, tier);
                });
                candidates.push(plan.steps.clone());
                break;
            }
        }
        plan.steps = candidates.into_iter().min_by_key(|steps| plan.cost(steps, tier))?;
        Some(plan)
    }

    /// Makes the parts as long along an axis as they may be, or says that not even one step fits.
    fn lengthen(&mut self, axis: usize, op: &dyn Op, io: &Io, tier: &Tier) -> bool {
        let extent = self.axes[axis].extent;
        let mut fits = |steps: usize| {
            self.steps[axis] = steps;
            self.first(io).is_some_and(|part| !part.launches(op, tier).is_empty())
        };
        if !fits(1) {
            return false;
        }
        let (mut most, mut too_many) = (1, extent + 1);
        while most + 1 < too_many {
            let middle = most + (too_many - most) / 2;
            if fits(middle) {
                most = middle;
            } else {
                too_many = middle;
            }
        }
        let quantum = self.quantum(axis, tier);
        self.steps[axis] = if most < extent && most >= quantum { most / quantum * quantum } else { most };
        true
    }

    /// Bytes that parts of these steps read and write, those that are moved through scratch three times.
    fn cost(&self, steps: &[usize], tier: &Tier) -> u64 {
        let alignment = alignment(&tier.limits) as usize;
        let parts: usize =
            self.axes.iter().zip(steps).map(|(axis, steps)| axis.extent.div_ceil(*steps)).product();
        let tensor = |desc: &TensorDesc, axes: Vec<Option<usize>>| {
            let (mut own, strides) = (desc.shape.clone(), strides(&desc.shape));
            let mut aligned = true;
            for (at, &steps) in axes.into_iter().zip(steps) {
                if let Some(at) = at.filter(|&at| steps < desc.shape[at]) {
                    own[at] = steps;
                    aligned &= (strides[at] * steps * desc.dtype.size()).is_multiple_of(alignment);
                }
            }
            let bytes = (own.iter().product::<usize>() * desc.dtype.size()) as u64;
            if aligned && in_one_stretch(&own, &desc.shape) { bytes } else { 3 * bytes }
        };
        let inputs = self.inputs.iter().enumerate().map(|(i, desc)| {
            tensor(desc, self.axes.iter().map(|axis| axis.inputs.get(i).copied().flatten()).collect())
        });
        let outputs = self.outputs.iter().enumerate().map(|(i, desc)| {
            tensor(desc, self.axes.iter().map(|axis| axis.outputs.get(i).copied().flatten()).collect())
        });
        (parts as u64).saturating_mul(inputs.chain(outputs).sum())
    }

    /// The op on flat tensors: axes that every tensor walks alike are one.
    fn elements(io: &Io) -> Option<Self> {
        let shape = &io.outputs.first()?.shape;
        let follows = |desc: &TensorDesc, axis: usize| {
            let own = (axis + desc.rank()).checked_sub(shape.len()).map_or(1, |own| desc.shape[own]);
            own == shape[axis]
        };
        // The extent of each axis that is left, and which inputs have it.
        let mut merged: Vec<(usize, Vec<bool>)> = Vec::new();
        for (axis, &extent) in shape.iter().enumerate() {
            let last = axis + 1 == shape.len();
            if extent == 1 && !last {
                continue;
            }
            let followed: Vec<bool> = io.inputs.iter().map(|desc| follows(desc, axis)).collect();
            match merged.last_mut() {
                Some((outer, alike)) if *alike == followed => *outer *= extent,
                _ => merged.push((extent, followed)),
            }
        }
        let flat = |input: Option<usize>, dtype| {
            let extents = merged.iter().map(|(extent, followed)| match input {
                Some(input) if !followed[input] => 1,
                _ => *extent,
            });
            TensorDesc::new(extents.collect::<Vec<_>>(), dtype)
        };
        let mut inputs = Vec::new();
        for (i, desc) in io.inputs.iter().enumerate() {
            let mut desc = flat(Some(i), desc.dtype);
            // As inputs that broadcast are given: without ones in front.
            let ones = desc.shape.iter().take_while(|&&extent| extent == 1).count();
            desc.shape.drain(..ones);
            inputs.push(desc);
        }
        let outputs: Vec<TensorDesc> = io.outputs.iter().map(|desc| flat(None, desc.dtype)).collect();
        let axes = (0..merged.len()).map(|axis| {
            let own = |desc: &TensorDesc| {
                let own = (axis + desc.rank()).checked_sub(merged.len())?;
                (desc.shape[own] == merged[axis].0).then_some(own)
            };
            Axis {
                extent: merged[axis].0,
                inputs: inputs.iter().map(own).collect(),
                outputs: outputs.iter().map(own).collect(),
            }
        });
        Some(Self { axes: axes.collect(), steps: Vec::new(), inputs, outputs })
    }

    /// The op on its tensors as they are, cut along the axes that it names. Operands of the epilogue follow output 0.
    fn axes(along: Vec<Along>, io: &Io) -> Option<Self> {
        let own = io.inputs.len().checked_sub(io.epilogue.operands())?;
        let y = io.outputs.first()?;
        let axes = along.into_iter().map(|along| {
            let at = along.outputs.first().copied().flatten();
            let extent = at.and_then(|axis| y.shape.get(axis)).copied().unwrap_or(1);
            let operand = |desc: &TensorDesc| {
                let own = (at? + desc.rank()).checked_sub(y.rank())?;
                (desc.shape[own] == extent && extent != 1).then_some(own)
            };
            let mut inputs = along.inputs;
            inputs.resize(own, None);
            inputs.extend(io.inputs[own..].iter().map(operand));
            Axis { extent, inputs, outputs: along.outputs }
        });
        let axes: Vec<Axis> = axes.collect();
        // What an op of another crate says may be wrong.
        let has = |desc: &TensorDesc, own: usize, axis: &Axis| desc.shape.get(own) == Some(&axis.extent);
        let sound = axes.iter().all(|axis| {
            let outputs = (0..io.outputs.len()).map(|i| axis.outputs.get(i).copied().flatten());
            let mut inputs = io.inputs.iter().zip(&axis.inputs);
            inputs.all(|(desc, own)| own.is_none_or(|own| has(desc, own, axis)))
                && io
                    .outputs
                    .iter()
                    .zip(outputs)
                    .all(|(desc, own)| own.is_some_and(|own| has(desc, own, axis)))
        });
        sound.then(|| Self {
            axes,
            steps: Vec::new(),
            inputs: io.inputs.to_vec(),
            outputs: io.outputs.to_vec(),
        })
    }

    /// Steps along an axis whose multiples start where a binding may, in every tensor that has it.
    fn quantum(&self, axis: usize, tier: &Tier) -> usize {
        let alignment = alignment(&tier.limits) as usize;
        let cut = &self.axes[axis];
        let inputs = self.inputs.iter().zip(&cut.inputs);
        inputs.chain(self.outputs.iter().zip(&cut.outputs)).fold(1, |quantum, (desc, own)| {
            let step = own.map_or(alignment, |own| strides(&desc.shape)[own] * desc.dtype.size());
            lcm(quantum, alignment / gcd(alignment, step))
        })
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let counts: Vec<usize> =
            self.axes.iter().zip(&self.steps).map(|(axis, &steps)| axis.extent.div_ceil(steps)).collect();
        let total: usize = counts.iter().product();
        (0..total).map(move |mut index| {
            let mut ranges = vec![0..0; counts.len()];
            for (axis, &count) in counts.iter().enumerate().rev() {
                let start = index % count * self.steps[axis];
                index /= count;
                ranges[axis] = start..(start + self.steps[axis]).min(self.axes[axis].extent);
            }
            self.part(&ranges)
        })
    }

    /// The boxes of these ranges of the axes.
    fn part(&self, ranges: &[Range<usize>]) -> Part {
        let boxed = |descs: &[TensorDesc], own: fn(&Axis) -> &[Option<usize>]| {
            let mut boxes: Vec<Vec<Range<usize>>> =
                descs.iter().map(|desc| desc.shape.iter().map(|&extent| 0..extent).collect()).collect();
            for (axis, range) in self.axes.iter().zip(ranges) {
                for (boxed, own) in boxes.iter_mut().zip(own(axis)) {
                    if let Some(extent) = own.and_then(|own| boxed.get_mut(own)) {
                        *extent = range.clone();
                    }
                }
            }
            boxes
        };
        Part {
            inputs: boxed(&self.inputs, |axis| &axis.inputs),
            outputs: boxed(&self.outputs, |axis| &axis.outputs),
        }
    }

    /// The first part, which is as large as any.
    fn first(&self, io: &Io) -> Option<PartIo> {
        let ranges: Vec<Range<usize>> = self.steps.iter().map(|&steps| 0..steps).collect();
        self.part_io(&self.part(&ranges), io)
    }

    /// What the op is asked for a part, where the epilogue's operands still spread in a way that it knows.
    pub fn part_io(&self, part: &Part, io: &Io) -> Option<PartIo> {
        let cut = |descs: &[TensorDesc], boxes: &[Vec<Range<usize>>]| -> Vec<TensorDesc> {
            let shape = |boxed: &Vec<Range<usize>>| boxed.iter().map(Range::len).collect::<Vec<_>>();
            descs.iter().zip(boxes).map(|(desc, boxed)| TensorDesc::new(shape(boxed), desc.dtype)).collect()
        };
        let (inputs, outputs) = (cut(&self.inputs, &part.inputs), cut(&self.outputs, &part.outputs));
        let operands = &inputs[inputs.len().checked_sub(io.epilogue.operands())?..];
        let mut epilogue = io.epilogue.clone();
        for step in &mut epilogue.steps {
            if let Step::Binary { operand, spread, .. } = step {
                *spread = Spread::of(&operands.get(*operand)?.shape, &outputs.first()?.shape)?;
            }
        }
        // A box of a constant is not packed: packs belong to whole tensors.
        let whole = |i: usize| inputs[i].len() == self.inputs[i].len();
        let constant = (0..inputs.len()).map(|i| io.is_constant(i) && whole(i)).collect();
        Some(PartIo { inputs, outputs, constant, epilogue })
    }
}

/// Whether a box of these extents lies in one stretch of a tensor of this shape.
pub(super) fn in_one_stretch(own: &[usize], shape: &[usize]) -> bool {
    let first = own.iter().position(|&extent| extent != 1).unwrap_or(own.len());
    own.iter().zip(shape).skip(first + 1).all(|(own, whole)| own == whole)
}
