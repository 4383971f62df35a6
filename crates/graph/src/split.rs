//! Ops on tensors that are larger than a device binds: the op again and again on parts of them.
//!
//! One rule serves every op. [`Op::independence`] says along which axes an op's work falls into parts; a part is the op
//! on a box of each tensor that has the axis. The longest boxes are taken that the op's own launches can bind. A box
//! that lies in one stretch from an offset that a binding may have is bound where it is; any other is moved through
//! scratch memory. What comes out is an ordinary launch of several dispatches.

mod join;
mod parts;

use std::ops::Range;

use crate::{DeviceLimits, Io, Launch, Op, OpError, Source, Tier};
use parts::Plan;

/// Bytes that a binding can cover.
pub(crate) fn binding_limit(limits: &DeviceLimits) -> u64 {
    limits.max_binding_bytes.min(limits.max_buffer_bytes)
}

/// Bytes between offsets that a binding may have.
pub(crate) fn alignment(limits: &DeviceLimits) -> u64 {
    u64::from(limits.offset_alignment.max(16))
}

/// The smallest range that can be bound around a range of a tensor of `whole` bytes. It ends at a multiple of 16 bytes, as
/// tensors themselves do in memory.
pub(crate) fn bindable(range: Range<u64>, whole: u64, limits: &DeviceLimits) -> Range<u64> {
    let alignment = alignment(limits);
    let start = range.start / alignment * alignment;
    let end = start + (range.end - start).next_multiple_of(16).max(16);
    start..end.min(whole.next_multiple_of(16).max(start + 16))
}

/// Greatest common divisor; 1 for two zeros.
pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Least common multiple.
pub(crate) fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

/// Launches of an op that bind nothing larger than the device allows, best guess first. Those of the op itself where they
/// do; else launches over parts of its tensors; an error where its smallest part does not fit either.
///
/// A value that no buffer can hold stays as it is: that is for whoever allocates it to refuse.
pub fn launches_within(op: &dyn Op, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
    let largest = io.inputs.iter().chain(io.outputs).map(|desc| desc.bytes() as u64).max().unwrap_or(0);
    let launches = op.launches(io, tier);
    if largest > tier.limits.max_buffer_bytes {
        return launches;
    }
    let refused = match launches {
        Ok(launches) => {
            if launches.is_empty() {
                return Ok(launches);
            }
            let launches = fitting(launches, io, tier);
            if !launches.is_empty() {
                return Ok(launches);
            }
            None
        }
        // Launches that cut their own work may find a piece too large that a part of the op would not have.
        Err(error) if largest > binding_limit(&tier.limits) => Some(error),
        Err(error) => return Err(error),
    };
    if let Some(plan) = Plan::of(op, io, tier) {
        return join::launches(&plan, op, io, tier);
    }
    let limit = binding_limit(&tier.limits);
    let reason = refused.map_or_else(
        || format!("the smallest part of its work needs bindings of more than {limit} bytes"),
        |error| error.reason,
    );
    Err(OpError::new(op.name(), io.inputs, reason))
}

/// Launches that work in input 0's memory, best guess first, where the op has such that bind nothing larger than the
/// device allows; see [`Op::launches_in_place`].
pub fn launches_in_place_within(op: &dyn Op, io: &Io, tier: &Tier) -> Vec<Launch> {
    match (io.inputs.first(), io.outputs) {
        (Some(x), [y]) if x.bytes() == y.bytes() => fitting(op.launches_in_place(io, tier), io, tier),
        _ => Vec::new(),
    }
}

/// The launches that bind nothing larger than the device allows.
fn fitting(mut launches: Vec<Launch>, io: &Io, tier: &Tier) -> Vec<Launch> {
    let limit = binding_limit(&tier.limits);
    let whole = |launch: &Launch, source| match source {
        Source::Input(i) => io.inputs.get(i).map(|desc| desc.bytes() as u64),
        Source::Output(i) => io.outputs.get(i).map(|desc| desc.bytes() as u64),
        Source::Scratch(i) => launch.scratch.get(i).copied(),
        Source::Table(i) => launch.tables.get(i).map(|table| table.len() as u64),
    };
    launches.retain(|launch| {
        launch.dispatches.iter().flat_map(|dispatch| &dispatch.bindings).all(|binding| {
            let bytes = match &binding.range {
                Some(range) => range.end - range.start,
                None => whole(launch, binding.source).unwrap_or(0),
            };
            bytes <= limit
        })
    });
    launches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Binary, CacheAppend, Matmul, Softmax, Unary};
    use crate::{DType, Epilogue, Spread, Step, TensorDesc};

    fn tier(limit: u64) -> Tier {
        let mut tier = Tier::webgpu();
        tier.limits.max_binding_bytes = limit;
        tier
    }

    fn launch(op: &dyn Op, shapes: &[&[usize]], epilogue: &Epilogue, limit: u64) -> Result<Launch, OpError> {
        let inputs: Vec<TensorDesc> =
            shapes.iter().map(|&shape| TensorDesc::new(shape, DType::F32)).collect();
        let outputs = op.infer(&inputs[..inputs.len() - epilogue.operands()])?;
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &[], epilogue };
        Ok(launches_within(op, &io, &tier(limit))?.swap_remove(0))
    }

    /// Ranges bound to a variable, one a dispatch that has it.
    fn bound(launch: &Launch, name: &str) -> Vec<Option<Range<u64>>> {
        let bindings = launch.dispatches.iter().flat_map(|dispatch| &dispatch.bindings);
        bindings.filter(|binding| binding.name == name).map(|binding| binding.range.clone()).collect()
    }

    #[test]
    fn ranges_start_where_they_may_and_end_as_memory_does() {
        let limits = &Tier::webgpu().limits;
        assert_eq!(bindable(512..600, 10_000, limits), 512..608);
        assert_eq!(bindable(520..600, 10_000, limits), 512..608);
        assert_eq!(bindable(9984..9998, 9998, limits), 9984..10_000);
        assert_eq!(bindable(256..256, 1000, limits), 256..272);
    }

    #[test]
    fn what_fits_is_launched_as_ever() {
        let whole = launch(&Unary::Relu, &[&[64, 64]], Epilogue::NONE, 16 << 10).unwrap();
        assert_eq!((whole.dispatches.len(), bound(&whole, "x")), (1, vec![None]));
    }

    #[test]
    fn elements_are_one_long_row() {
        let cut = launch(&Unary::Relu, &[&[3, 1001]], Epilogue::NONE, 8 << 10).unwrap();
        assert_eq!(bound(&cut, "x"), [Some(0..8192), Some(8192..12016)]);
        assert_eq!(bound(&cut, "y"), bound(&cut, "x"));
        assert!(cut.scratch.is_empty());
    }

    #[test]
    fn operands_follow_as_they_broadcast() {
        let add = |operand, spread| Step::Binary { function: Binary::Add, operand, spread, swapped: false };
        let epilogue = Epilogue {
            steps: vec![add(0, Spread::Last), add(1, Spread::Batch { inner: 1024 }), add(2, Spread::Full)],
        };
        let shapes: [&[usize]; 4] = [&[8, 16, 64], &[64], &[8, 1, 64], &[8, 16, 64]];
        let cut = launch(&Unary::Silu, &shapes, &epilogue, 16 << 10).unwrap();
        assert_eq!(bound(&cut, "y"), [Some(0..16384), Some(16384..32768)]);
        assert_eq!(bound(&cut, "operand0"), [None, None]);
        assert_eq!(bound(&cut, "operand1"), [Some(0..1024), Some(1024..2048)]);
        assert_eq!(bound(&cut, "operand2"), bound(&cut, "y"));
    }

    #[test]
    fn rows_are_not_torn() {
        let op = Softmax { axis: 1, log: false };
        let cut = launch(&op, &[&[100, 64]], Epilogue::NONE, 10_000).unwrap();
        assert_eq!(bound(&cut, "x"), [Some(0..9984), Some(9984..19968), Some(19968..25600)]);
        let error = launch(&op, &[&[2, 4096]], Epilogue::NONE, 10_000).unwrap_err();
        assert!(error.reason.contains("smallest part"), "{error}");
    }

    #[test]
    fn boxes_that_cannot_be_bound_go_through_scratch() {
        // Columns of a picture, 16 at a time at most.
        let op = Softmax { axis: 0, log: false };
        let cut = launch(&op, &[&[16, 40]], Epilogue::NONE, 1024).unwrap();
        assert_eq!(cut.scratch, [1024, 1024]);
        // Nothing of the tensors is bound whole.
        for binding in cut.dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
            assert!(matches!(binding.source, Source::Scratch(_)) || binding.range.is_some());
        }
    }

    #[test]
    fn products_are_cut_into_blocks_where_neither_operand_fits() {
        let op = Matmul { transpose_b: false };
        let cut = launch(&op, &[&[512, 64], &[64, 512]], Epilogue::NONE, 32 << 10).unwrap();
        // 128 columns of b fit and 64 x 128 results: not 512 times a row of a with all of b, part by part.
        let blocks = cut.dispatches.iter().filter(|d| d.bindings.iter().any(|b| b.name == "a")).count();
        assert!((16..=64).contains(&blocks), "{blocks} blocks");
    }

    #[test]
    fn what_an_op_leaves_is_moved_there_and_back() {
        // Rows of 65 elements of two images, neither at an offset that a binding may have.
        let shapes = [TensorDesc::new([2, 3, 65], DType::F32), TensorDesc::new([2, 1, 65], DType::F32)];
        let inputs = [&shapes[..], &[TensorDesc::new([], DType::U32)]].concat();
        let outputs = CacheAppend.infer(&inputs).unwrap();
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &[], epilogue: Epilogue::NONE };
        let cut = launches_within(&CacheAppend, &io, &tier(1024)).unwrap().swap_remove(0);
        let ends = |dispatch: &crate::Dispatch| {
            let at = |name: &str| dispatch.bindings.iter().find(|b| b.name == name).map(|b| b.source);
            (at("x"), at("y"))
        };
        let moves: Vec<_> = cut.dispatches.iter().map(ends).collect();
        assert!(moves.iter().any(|(from, _)| *from == Some(Source::Output(0))), "{moves:?}");
        assert!(moves.iter().any(|(_, to)| *to == Some(Source::Output(0))), "{moves:?}");
        // The cache itself is not read: its bytes are in the output already.
        assert!(moves.iter().all(|(from, _)| *from != Some(Source::Input(0))), "{moves:?}");
    }
}
