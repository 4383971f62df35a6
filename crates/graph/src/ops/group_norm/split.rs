//! Group norm in three steps: statistics of channels over runs of pixels, those of groups, the normalised elements. A
//! single picture that is larger than a binding goes through the first and the last slab by slab.

use std::ops::Range;

use kiln_shaders::{self as shaders, Unit};

use super::{GroupNorm, extents};
use crate::ops::units;
use crate::split::{alignment, bindable, binding_limit, gcd, lcm};
use crate::{Dispatch, Epilogue, Io, Kernel, Launch, Source, Spread, Step, TensorDesc, Tier, params};

params! {
    struct StatisticsParams { images: u32, pixels: u32, channels: u32, runs: u32, run: u32 }
}

params! {
    struct CombineParams {
        pixels: u32, channels: u32, members: u32, runs: u32, run: u32, width: u32, eps: f32,
    }
}

params! {
    struct ApplyParams { len: u32, channels: u32, image: u32 }
}

/// Bytes of the statistics of one load of channels.
const RECORD: usize = 48;

/// What is bound of a picture of so many pixels: all of it, or slabs of whole steps of pixels, which start where bindings
/// may.
struct Slabs<'a> {
    x: &'a TensorDesc,
    pixels: usize,
    channels: usize,
    tier: &'a Tier,
}

impl Slabs<'_> {
    fn pixel(&self) -> usize {
        self.channels * self.x.dtype.size()
    }

    /// Whether a single picture must be cut.
    fn are_needed(&self, images: usize) -> bool {
        images == 1 && self.x.bytes() as u64 > binding_limit(&self.tier.limits)
    }

    /// Slabs whose number of pixels is a multiple of `step`, but for the last.
    fn of(&self, step: usize) -> Vec<Range<usize>> {
        let step = lcm(step, aligned(self.pixel(), self.tier));
        let most = binding_limit(&self.tier.limits) as usize / self.pixel();
        // A step that does not fit makes a slab that does not: launches that bind too much are not taken.
        let len = (most / step * step).max(step);
        (0..self.pixels).step_by(len).map(|start| start..(start + len).min(self.pixels)).collect()
    }

    fn bytes(&self, slab: &Range<usize>) -> Range<u64> {
        let bytes = (slab.start * self.pixel()) as u64..(slab.end * self.pixel()) as u64;
        bindable(bytes, self.x.bytes() as u64, &self.tier.limits)
    }
}

/// Items of so many bytes whose multiples start where a binding may.
fn aligned(item: usize, tier: &Tier) -> usize {
    let alignment = alignment(&tier.limits) as usize;
    alignment / gcd(alignment, item)
}

/// The launch, with `chain` applied to the result; its operands are inputs 1 and on. In place, the output holds the input
/// when the last step begins.
pub(super) fn launch(op: &GroupNorm, chain: &Epilogue, io: &Io, tier: &Tier, in_place: bool) -> Launch {
    let x = &io.inputs[0];
    let [images, pixels, channels] = extents(&x.shape);
    let slabs = Slabs { x, pixels, channels, tier };
    let cut = slabs.are_needed(images);
    let vec4 = channels.is_multiple_of(4);
    let width = if vec4 { 4 } else { 1 };
    let loads = channels / width;
    // Runs short enough to occupy the device, long enough to leave the second step little, which binds all of theirs.
    let wanted = if tier.software { 512 } else { 32 << 10 };
    let mut run = (images * pixels * loads).div_ceil(wanted).clamp(16, 1024).min(pixels);
    if cut {
        let most = (binding_limit(&tier.limits) as usize / (loads * RECORD)).max(1);
        run = run.max(pixels.div_ceil(most));
    }
    let runs = pixels.div_ceil(run);
    let kernel = |own: &[Unit]| {
        let mut parts = vec![units::elem(x.dtype), shaders::GRID];
        parts.extend_from_slice(own);
        Kernel::new(parts)
    };

    let statistics = |pixels: usize| {
        let runs = pixels.div_ceil(run);
        let params = StatisticsParams {
            images: images as u32,
            pixels: pixels as u32,
            channels: channels as u32,
            runs: runs as u32,
            run: run as u32,
            ..Default::default()
        };
        let units = [units::load(vec4), shaders::GROUP_NORM_STATISTICS];
        let lanes = if tier.software { 8 } else { 64 };
        let groups = (images * runs * loads).div_ceil(lanes) as u64;
        Dispatch::new(kernel(&units).set("WORKGROUP", lanes as u32), params, groups)
    };
    let partials = Source::Scratch(0);
    let all_partials = (images * runs * loads * RECORD) as u64;
    let mut dispatches = Vec::new();
    if cut {
        for slab in slabs.of(run * aligned(loads * RECORD, tier)) {
            let record = |pixel: usize| (pixel.div_ceil(run) * loads * RECORD) as u64;
            let written = bindable(record(slab.start)..record(slab.end), all_partials, &tier.limits);
            dispatches.push(
                statistics(slab.len())
                    .bind_range("x", Source::Input(0), slabs.bytes(&slab))
                    .bind_range("partials", partials, written),
            );
        }
    } else {
        dispatches.push(statistics(pixels).bind("x", Source::Input(0)).bind("partials", partials));
    }

    let members = channels / op.groups;
    let combine = CombineParams {
        pixels: pixels as u32,
        channels: channels as u32,
        members: members as u32,
        runs: runs as u32,
        run: run as u32,
        width: width as u32,
        eps: op.eps,
        ..Default::default()
    };
    let alone = tier.software && (2 * runs + 1) * members <= units::MAX_LOOP_ITERATIONS;
    let (reduce, lanes) = if alone { (shaders::REDUCE_ALONE, 1) } else { (shaders::REDUCE_WORKGROUP, 64) };
    let units = [reduce, shaders::GROUP_NORM_COMBINE];
    dispatches.push(
        Dispatch::new(kernel(&units).set("WORKGROUP", lanes), combine, (images * op.groups) as u64)
            .bind("partials", partials)
            .bind("statistics", Source::Scratch(1)),
    );

    let apply = |pixels: usize| {
        let len = images * pixels * channels;
        let params = ApplyParams {
            len: len as u32,
            channels: channels as u32,
            image: (pixels * channels) as u32,
            ..Default::default()
        };
        let mut units = vec![shaders::GROUP_NORM_APPLY];
        if in_place {
            units.push(units::in_place(vec4));
        } else {
            units.extend([units::load(vec4), units::store(vec4)]);
        }
        units.extend(chain.units(x, vec4));
        let groups = (len / width).div_ceil(64) as u64;
        Dispatch::new(kernel(&units).set("WORKGROUP", 64), params, groups)
    };
    if cut {
        for slab in slabs.of(steps_of(chain, channels, x, tier)) {
            let bytes = slabs.bytes(&slab);
            let mut dispatch = apply(slab.len()).bind("statistics", Source::Scratch(1));
            if !in_place {
                dispatch = dispatch.bind_range("x", Source::Input(0), bytes.clone());
            }
            let dispatch = dispatch.bind_range("y", Source::Output(0), bytes);
            dispatches.push(follow(chain, chain.bind(dispatch, 1), &slab, io, tier));
        }
    } else {
        let mut dispatch = apply(pixels).bind("statistics", Source::Scratch(1));
        if !in_place {
            dispatch = dispatch.bind("x", Source::Input(0));
        }
        dispatches.push(chain.bind(dispatch.bind("y", Source::Output(0)), 1));
    }

    let scratch = vec![all_partials, (images * loads * RECORD) as u64];
    let name = if in_place { "in_place" } else { "split" };
    Launch { name, scratch, dispatches, ..Launch::default() }
}

/// Pixels whose multiples start where bindings to all operands of a chain may.
fn steps_of(chain: &Epilogue, channels: usize, x: &TensorDesc, tier: &Tier) -> usize {
    chain.steps.iter().fold(1, |steps, step| match step {
        Step::Binary { spread: Spread::Batch { inner }, .. } => {
            lcm(steps, inner / channels * aligned(channels * x.dtype.size(), tier))
        }
        _ => steps,
    })
}

/// Binds of the chain's operands what a slab of pixels needs.
fn follow(chain: &Epilogue, mut dispatch: Dispatch, slab: &Range<usize>, io: &Io, tier: &Tier) -> Dispatch {
    let channels = io.outputs[0].last();
    for step in &chain.steps {
        let Step::Binary { operand, spread, .. } = step else { continue };
        let pixels = match spread {
            Spread::Full => 1,
            Spread::Batch { inner } => inner / channels,
            Spread::Last | Spread::Scalar => continue,
        };
        let Some(desc) = io.inputs.get(1 + operand) else { continue };
        let row = channels * desc.dtype.size();
        let bytes = (slab.start / pixels * row) as u64..(slab.end.div_ceil(pixels) * row) as u64;
        for binding in dispatch.bindings.iter_mut().filter(|b| b.name == format!("operand{operand}")) {
            binding.range = Some(bindable(bytes.clone(), desc.bytes() as u64, &tier.limits));
        }
    }
    dispatch
}
