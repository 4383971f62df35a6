//! Launches of parts joined into one.

use std::ops::Range;

use super::parts::{Part, PartIo, Plan, in_one_stretch};
use super::{alignment, bindable, binding_limit};
use crate::ops::strided::{self, End, Walk};
use crate::{Binding, Dispatch, Io, Launch, Op, OpError, Source, TensorDesc, Tier, strides};

/// A launch for each way in which the op computes a part, best guess first.
pub(super) fn launches(plan: &Plan, op: &dyn Op, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
    let refused = || {
        let limit = binding_limit(&tier.limits);
        let reason = format!("a part of its work needs bindings of more than {limit} bytes");
        OpError::new(op.name(), io.inputs, reason)
    };
    // Most parts are alike, and are asked for once.
    let mut asked: Vec<(PartIo, Vec<Launch>)> = Vec::new();
    let mut parts = Vec::new();
    for part in plan.parts() {
        let part_io = plan.part_io(&part, io).ok_or_else(refused)?;
        let known = asked.iter().position(|(known, _)| *known == part_io);
        let index = match known {
            Some(index) => index,
            None => {
                let launches = part_io.launches(op, tier);
                if launches.is_empty() {
                    return Err(refused());
                }
                asked.push((part_io, launches));
                asked.len() - 1
            }
        };
        parts.push((part, index));
    }
    let names = asked.first().map_or(Vec::new(), |(_, launches)| launches.iter().map(|l| l.name).collect());
    let join = |name: &'static str| {
        let mut joined = Joined { launch: Launch { name, ..Launch::default() }, plan, tier, used: 0 };
        for (part, index) in &parts {
            let (part_io, launches) = &asked[*index];
            let launch = launches.iter().find(|launch| launch.name == name).or(launches.first());
            joined.add(part, part_io, launch.ok_or_else(refused)?, op.starts_as());
        }
        Ok(joined.launch)
    };
    names.into_iter().map(join).collect()
}

/// The launch so far.
struct Joined<'a> {
    launch: Launch,
    plan: &'a Plan,
    tier: &'a Tier,
    /// Scratch buffers that the current part uses: the next one uses them again.
    used: usize,
}

/// Where a part finds a tensor.
#[derive(Clone)]
enum Place {
    /// The whole of it.
    Whole(Source),
    /// These bytes.
    Range(Source, Range<u64>),
}

impl Place {
    /// The place of a binding to it.
    fn bind(&self, binding: Binding) -> Binding {
        let (source, range) = match (self, binding.range) {
            (Self::Whole(source), range) => (*source, range),
            (Self::Range(source, own), None) => (*source, Some(own.clone())),
            (Self::Range(source, own), Some(range)) => {
                (*source, Some(own.start + range.start..own.start + range.end))
            }
        };
        Binding { source, range, ..binding }
    }
}

impl Joined<'_> {
    /// A scratch buffer of at least so many bytes that the current part does not use yet.
    fn scratch(&mut self, bytes: u64) -> Place {
        let index = self.used;
        self.used += 1;
        match self.launch.scratch.get_mut(index) {
            Some(size) => *size = bytes.max(*size),
            None => self.launch.scratch.push(bytes),
        }
        Place::Range(Source::Scratch(index), 0..bytes.next_multiple_of(16).max(16))
    }

    /// The place of a box; where it must be moved, also the walk from the tensor to there.
    fn place(&mut self, source: Source, desc: &TensorDesc, boxed: &[Range<usize>]) -> (Place, Option<Walk>) {
        let own: Vec<usize> = boxed.iter().map(Range::len).collect();
        if own == desc.shape {
            return (Place::Whole(source), None);
        }
        let strides = strides(&desc.shape);
        let first: usize = boxed.iter().zip(&strides).map(|(range, stride)| range.start * stride).sum();
        let len: usize = own.iter().product();
        let size = desc.dtype.size() as u64;
        let (start, bytes) = (first as u64 * size, len as u64 * size);
        if start.is_multiple_of(alignment(&self.tier.limits)) && in_one_stretch(&own, &desc.shape) {
            let range = bindable(start..start + bytes, desc.bytes() as u64, &self.tier.limits);
            return (Place::Range(source, range), None);
        }
        let strides: Vec<isize> = strides.iter().map(|&stride| stride as isize).collect();
        (self.scratch(bytes), Some(Walk::reading(&own, &strides, first)))
    }

    /// Appends the launch of a part.
    fn add(&mut self, part: &Part, part_io: &PartIo, launch: &Launch, starts_as: &[(usize, usize)]) {
        self.used = 0;
        let plan = self.plan;
        let sources = |i: usize| {
            launch.dispatches.iter().flat_map(|d| &d.bindings).any(|b| b.source == Source::Input(i))
        };
        let mut inputs = Vec::new();
        for (i, (desc, boxed)) in plan.inputs.iter().zip(&part.inputs).enumerate() {
            let source = Source::Input(i);
            // An input that nothing binds need not be moved.
            if !sources(i) {
                inputs.push(Place::Whole(source));
                continue;
            }
            let (place, walk) = self.place(source, desc, boxed);
            if let (Some(walk), Place::Range(scratch, range)) = (walk, &place) {
                let to = End { source: *scratch, bytes: range.end };
                self.walk(&walk, desc, End { source, bytes: desc.bytes() as u64 }, to);
            }
            inputs.push(place);
        }
        let (mut outputs, mut back) = (Vec::new(), Vec::new());
        for (i, (desc, boxed)) in plan.outputs.iter().zip(&part.outputs).enumerate() {
            let source = Source::Output(i);
            let (place, walk) = self.place(source, desc, boxed);
            if let (Some(walk), Place::Range(scratch, range)) = (walk, &place) {
                let (whole, own) =
                    (End { source, bytes: desc.bytes() as u64 }, End { source: *scratch, bytes: range.end });
                // What the op leaves as it was has to be there.
                if starts_as.iter().any(|&(_, output)| output == i) {
                    self.walk(&walk, desc, whole, own);
                }
                back.push((walk.reversed(), desc, own, whole));
            }
            outputs.push(place);
        }
        let scratch: Vec<Place> = launch.scratch.iter().map(|&bytes| self.scratch(bytes)).collect();
        let tables: Vec<usize> = launch.tables.iter().map(|table| self.table(table)).collect();
        for pack in &launch.packs {
            let known = |known: &crate::Pack| known.input == pack.input && known.key == pack.key;
            if part_io.constant.get(pack.input) == Some(&true) && !self.launch.packs.iter().any(known) {
                self.launch.packs.push(pack.clone());
            }
        }
        let place = |source: Source| match source {
            Source::Input(i) => inputs.get(i).cloned(),
            Source::Output(i) => outputs.get(i).cloned(),
            Source::Scratch(i) => scratch.get(i).cloned(),
            Source::Table(i) => tables.get(i).map(|&i| Place::Whole(Source::Table(i))),
        };
        let rebound = |binding: &Binding| match place(binding.source) {
            Some(place) => place.bind(binding.clone()),
            None => binding.clone(),
        };
        for dispatch in &launch.dispatches {
            let bindings = dispatch.bindings.iter().map(rebound).collect();
            self.launch.dispatches.push(Dispatch { bindings, ..dispatch.clone() });
        }
        for (walk, desc, from, to) in back {
            self.walk(&walk, desc, from, to);
        }
    }

    fn walk(&mut self, walk: &Walk, desc: &TensorDesc, from: End, to: End) {
        let mut dispatches = strided::between(walk, desc.dtype.size(), from, to, self.tier);
        for binding in dispatches.iter_mut().flat_map(|dispatch| &mut dispatch.bindings) {
            // A scratch buffer may be larger, for other parts' sake.
            if let (Source::Scratch(_), None) = (binding.source, &binding.range) {
                let end = if binding.source == from.source { from } else { to };
                binding.range = Some(0..end.bytes);
            }
        }
        self.launch.dispatches.extend(dispatches);
    }

    /// The table's index, shared by parts whose tables are equal.
    fn table(&mut self, table: &[u8]) -> usize {
        let tables = &mut self.launch.tables;
        tables.iter().position(|known| known == table).unwrap_or_else(|| {
            tables.push(table.to_vec());
            tables.len() - 1
        })
    }
}
