//! Launches shared by ops that work on rows of consecutive elements: norms, softmax.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::units;
use crate::{DType, Dispatch, Epilogue, Io, Kernel, Launch, Params, Source, Step, Tier};

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
        let desc = crate::TensorDesc::new([self.rows, self.len], dtype);
        let kernel = |own: &[Unit], workgroup: u32, reduce: bool| {
            let access = if vec4 { shaders::ACCESS_VEC4 } else { shaders::ACCESS_SCALAR };
            let mut parts = vec![units::elem(dtype), shaders::GRID, access];
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
        if tier.software || (self.len <= 16 && self.rows >= 1024) {
            vec![lane, workgroup]
        } else {
            vec![workgroup, lane]
        }
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

/// Rows of so many elements in an op's first output.
pub(super) fn rows_of(io: &Io, len: usize) -> usize {
    io.outputs.first().map_or(0, |out| out.len()) / len.max(1)
}
