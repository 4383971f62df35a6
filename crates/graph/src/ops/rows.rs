//! Launches shared by ops that work on rows of consecutive elements: norms, softmax.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::{elementwise, units};
use crate::{DType, Dispatch, Epilogue, Io, Kernel, Launch, Params, Source, Step, TensorDesc, Tier};

/// A kernel pair over rows of consecutive elements.
pub(super) struct Rows<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Elements a row.
    pub len: usize,
    /// The kernel with a row an invocation, and what it links.
    pub lane: &'a [Unit],
    /// The kernel with a row a workgroup, and what it links.
    pub workgroup: &'a [Unit],
    /// Values of the kernels' own overrides.
    pub overrides: &'a [(&'static str, u32)],
    /// The kernels' parameters for so many rows.
    pub params: &'a dyn Fn(u32) -> Params,
}

impl Rows<'_> {
    /// The launches, with `chain` applied to the result; its operands are inputs 1 and on.
    pub fn launches(&self, chain: &Epilogue, dtype: DType, tier: &Tier) -> Vec<Launch> {
        let vec4 = self.len.is_multiple_of(4);
        let desc = TensorDesc::new([self.rows, self.len], dtype);
        let kernel = |own: &[Unit], workgroup: u32, reduce: bool| {
            let mut parts = vec![units::elem(dtype), shaders::GRID, units::load(vec4), units::store(vec4)];
            if reduce {
                parts.push(shaders::REDUCE_WORKGROUP);
            }
            parts.extend_from_slice(own);
            parts.extend(chain.units(&desc, vec4));
            let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
            self.overrides.iter().fold(kernel, |kernel, &(name, value)| kernel.set(name, value))
        };
        let launch = |name, kernel, groups: usize| {
            let dispatch = Dispatch::new(kernel, (self.params)(self.rows as u32), groups as u64)
                .bind("x", Source::Input(0))
                .bind("y", Source::Output(0));
            Launch::one(name, chain.bind(dispatch, 1))
        };
        // Few rows spread over more cores in small workgroups.
        let lanes = if tier.software && self.rows < 1024 { 8 } else { 64 };
        let lane = launch("lane", kernel(self.lane, lanes, false), self.rows.div_ceil(lanes as usize));
        let loads = self.len / if vec4 { 4 } else { 1 };
        let width = if loads > 128 { 256.min(tier.limits.max_invocations) } else { 64 };
        let workgroup = launch("workgroup", kernel(self.workgroup, width, true), self.rows);
        // A row in one invocation's hands reads memory with a stride: worth it only where a workgroup has nothing to do.
        let lane_first = tier.software || (self.len <= 16 && self.rows >= 1024);
        // The kernels go through a row three times.
        units::alone_or_shared(lane, workgroup, 3 * units::with_runs(loads), lane_first)
    }
}

/// A kernel pair over the lines along another axis than the last.
pub(super) struct Columns<'a> {
    /// Number of lines.
    pub lines: usize,
    /// Elements a line.
    pub len: usize,
    /// The kernel with a line, or four neighbours, an invocation, and what it links.
    pub lane: &'a [Unit],
    /// The kernel with a line, or four neighbours, a workgroup, and what it links.
    pub workgroup: &'a [Unit],
    /// Values of the kernels' own overrides.
    pub overrides: &'a [(&'static str, u32)],
    /// The kernels' parameters.
    pub params: Params,
}

impl Columns<'_> {
    /// The launches over an input and output `x`, with `chain` applied to the result; its operands are inputs 1 and on.
    pub fn launches(&self, chain: &Epilogue, x: &TensorDesc, tier: &Tier) -> Vec<Launch> {
        const WORKGROUP: usize = 64;
        let vec4 = x.last().is_multiple_of(4);
        let items = self.lines / if vec4 { 4 } else { 1 };
        let launch = |name, own: &[&[Unit]], workgroup: usize, groups: usize| {
            let mut parts = vec![units::elem(x.dtype), shaders::GRID, units::load(vec4), units::store(vec4)];
            own.iter().for_each(|own| parts.extend_from_slice(own));
            parts.extend(chain.units(x, vec4));
            let kernel = Kernel::new(parts).set("WORKGROUP", workgroup as u32);
            let kernel = self.overrides.iter().fold(kernel, |kernel, &(name, value)| kernel.set(name, value));
            let dispatch = Dispatch::new(kernel, self.params.clone(), groups as u64)
                .bind("x", Source::Input(0))
                .bind("y", Source::Output(0));
            Launch::one(name, chain.bind(dispatch, 1))
        };
        let columns = launch("columns", &[self.lane], WORKGROUP, items.div_ceil(WORKGROUP));
        // Short lines leave a workgroup nothing to share.
        if self.len < 256 {
            return vec![columns];
        }
        let reduce = [shaders::REDUCE_WORKGROUP, shaders::REDUCE_FOUR];
        let workgroup = launch("workgroup", &[&reduce, self.workgroup], WORKGROUP, items);
        let columns_first = tier.software || items >= 4096;
        // The kernels go through a line three times.
        units::alone_or_shared(columns, workgroup, 3 * self.len, columns_first)
    }
}

/// `own` steps, whose operands come first, then those of the epilogue.
pub(super) fn chain(own: Vec<Step>, epilogue: &Epilogue) -> Epilogue {
    let mut chain = Epilogue { steps: own };
    let first = chain.operands();
    chain.steps.extend(epilogue.steps.iter().map(|step| match *step {
        Step::Unary(function) => Step::Unary(function),
        Step::Binary { function, operand, spread, swapped } => {
            Step::Binary { function, operand: operand + first, spread, swapped }
        }
    }));
    chain
}

/// The steps of an epilogue that fit in a kernel that binds `bound` buffers besides operands, `own` operands among them
/// its own, and the rest, which [`finish`] runs as a dispatch by itself.
pub(super) fn fitting(
    own: Vec<Step>,
    bound: usize,
    epilogue: &Epilogue,
    tier: &Tier,
) -> (Epilogue, Epilogue) {
    let whole = chain(own.clone(), epilogue);
    let room = (tier.limits.max_storage_buffers as usize).saturating_sub(bound);
    if whole.operands() <= room.min(shaders::OPERANDS_VEC4.len()) {
        (whole, Epilogue::default())
    } else {
        (Epilogue { steps: own }, epilogue.clone())
    }
}

/// Runs the `rest` of an epilogue after a launch, which then writes to scratch memory instead of the output. The
/// epilogue's operands are inputs `first` and on.
pub(super) fn finish(mut launch: Launch, rest: &Epilogue, first: usize, io: &Io, tier: &Tier) -> Launch {
    if rest.is_empty() {
        return launch;
    }
    let y = &io.outputs[0];
    let scratch = Source::Scratch(launch.scratch.len());
    launch.scratch.push(y.bytes() as u64);
    for binding in launch.dispatches.iter_mut().flat_map(|dispatch| &mut dispatch.bindings) {
        if binding.source == Source::Output(0) {
            binding.source = scratch;
        }
    }
    launch.dispatches.push(elementwise::dispatch(rest, scratch, first, y, tier));
    launch
}

/// Rows of so many elements in an op's first output.
pub(super) fn rows_of(io: &Io, len: usize) -> usize {
    io.outputs.first().map_or(0, |out| out.len()) / len.max(1)
}
