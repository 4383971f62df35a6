//! Trials within a budget, dearest nodes first.

use std::collections::HashMap;
use std::time::Duration;

use super::Offer;
use super::trial::{RUNS, Trial, agree, is_finite};
use crate::run::seconds;
use crate::{Error, Gpu};

/// Bytes of inputs and outputs of a node that is tried at most: a trial holds them once more, on both sides.
const MAX_BYTES: u64 = 256 << 20;
/// Estimated seconds of a run of a node that is tried at most on a GPU: a candidate fifty times slower than that still
/// ends before watchdogs reset the device, after two seconds.
const MAX_SECONDS: f64 = 0.02;
/// Seconds that a driver takes for a pipeline, about.
const BUILD_SECONDS: f64 = 0.03;
/// The same in software, which compiles for the CPU at full optimisation.
const SOFTWARE_BUILD_SECONDS: f64 = 0.5;
/// Bytes a second that are made, uploaded, read back and compared, about.
const HOST_BYTES: f64 = 0.5e9;

/// How much longer a compilation may get. It is looked at before each candidate.
pub(crate) struct Budget<'a> {
    limit: Duration,
    /// Time since the tuning began.
    clock: &'a dyn Fn() -> Duration,
}

impl<'a> Budget<'a> {
    pub fn new(limit: Duration, clock: &'a dyn Fn() -> Duration) -> Self {
        Self { limit, clock }
    }

    fn affords(&self, seconds: f64) -> bool {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|wanted| (self.clock)().checked_add(wanted))
            .is_some_and(|end| end <= self.limit)
    }
}

fn is_software(gpu: &Gpu) -> bool {
    gpu.info().device_type == wgpu::DeviceType::Cpu
}

/// Rough seconds of trying one launch.
fn estimate(gpu: &Gpu, offer: &Offer) -> f64 {
    let build = if is_software(gpu) { SOFTWARE_BUILD_SECONDS } else { BUILD_SECONDS };
    build + RUNS as f64 * seconds(gpu, offer.flops, offer.bytes) + offer.bytes as f64 / HOST_BYTES
}

/// Tries launches that were not tried before on this device until the budget is used up, and keeps what comes out.
pub(crate) async fn tune(gpu: &Gpu, offers: &[Offer<'_>], budget: Budget<'_>) -> Result<(), Error> {
    // Alike nodes are tried once; what takes most of the model's time comes first.
    let mut weights: HashMap<&str, f64> = HashMap::new();
    let mut wanted: Vec<&Offer> = Vec::new();
    let small = |offer: &&Offer| {
        offer.bytes <= MAX_BYTES
            && (is_software(gpu) || seconds(gpu, offer.flops, offer.bytes) <= MAX_SECONDS)
    };
    for offer in offers.iter().filter(|offer| offer.launches.len() > 1).filter(small) {
        if gpu.choices.entry(&offer.key).is_some_and(|entry| entry.covers(&offer.names())) {
            continue;
        }
        let weight = weights.entry(&offer.key).or_insert_with(|| {
            wanted.push(offer);
            0.0
        });
        *weight += seconds(gpu, offer.flops, offer.bytes);
    }
    wanted.sort_by(|a, b| weights[b.key.as_str()].total_cmp(&weights[a.key.as_str()]));
    let mut result = Ok(());
    for offer in wanted {
        result = try_launches(gpu, offer, &budget).await;
        if result.is_err() {
            break;
        }
    }
    gpu.choices.save();
    result
}

/// Tries a node's launches. What is wrong with one is said in the log, and the others stay; only a lost device is an
/// error.
async fn try_launches(gpu: &Gpu, offer: &Offer<'_>, budget: &Budget<'_>) -> Result<(), Error> {
    let mut cost = estimate(gpu, offer);
    // The first alone decides nothing.
    if !budget.affords(2.0 * cost) {
        return Ok(());
    }
    let [guess, others @ ..] = &offer.launches[..] else { return Ok(()) };
    let start = (budget.clock)();
    let trial = Trial::new(gpu, offer)?;
    let (expected, time) = match trial.run(guess.name).await {
        Ok(found) => found,
        Err(error) if error.is_device_lost() => return Err(error),
        // The session that takes this launch says so itself.
        Err(error) => {
            log::debug!("{} is not tuned: {error}", offer.key);
            return Ok(());
        }
    };
    if !is_finite(&expected) {
        log::debug!("{} is not tuned: made-up inputs give no finite numbers", offer.key);
        return Ok(());
    }
    gpu.choices.record(&offer.key, guess.name, Some(time));
    cost = (budget.clock)().saturating_sub(start).as_secs_f64();
    let known = gpu.choices.entry(&offer.key).unwrap_or_default();
    for launch in others.iter().filter(|launch| !known.covers(&[launch.name])) {
        if !budget.affords(cost) {
            return Ok(());
        }
        let start = (budget.clock)();
        let rejected = |reason: &str| {
            log::warn!("launch {:?} of {} is not used: {reason}", launch.name, offer.key);
            gpu.choices.record(&offer.key, launch.name, None);
        };
        match trial.run(launch.name).await {
            Ok((actual, time)) if agree(&expected, &actual) => {
                log::debug!("{}: {} takes {time:.3e} s", offer.key, launch.name);
                gpu.choices.record(&offer.key, launch.name, Some(time));
            }
            Ok(_) => rejected(&format!("its numbers are not those of {:?}", guess.name)),
            Err(error) if error.is_device_lost() => return Err(error),
            // Memory may suffice another time.
            Err(error @ Error::OutOfMemory(_)) => log::debug!("{}: {error}", offer.key),
            Err(error) => rejected(&error.to_string()),
        }
        cost = (budget.clock)().saturating_sub(start).as_secs_f64();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use kiln_graph::{
        Builder, DType, Dispatch, Io, Kernel, Launch, Op, OpError, Params, Tensor, TensorDesc, Tier, Unit,
    };

    use super::*;
    use crate::GpuOptions;
    use crate::tuning::key;

    /// An op of four launches that do nothing.
    #[derive(Debug)]
    struct Idle(u32);

    impl Op for Idle {
        fn name(&self) -> &'static str {
            "idle"
        }

        fn attributes(&self) -> String {
            self.0.to_string()
        }

        fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
            Ok(inputs.to_vec())
        }

        fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
            Ok(inputs.iter().map(|x| (*x).clone()).collect())
        }

        fn launches(&self, _: &Io, _: &Tier) -> Result<Vec<Launch>, OpError> {
            const WGSL: &str = "@compute @workgroup_size(1) fn main() {}";
            let params = || Params { bytes: Vec::new(), fields: &[] };
            let dispatch = || Dispatch::new(Kernel::new([Unit::custom("idle", WGSL)]), params(), 1);
            Ok(["a", "b", "c", "d"].map(|name| Launch::one(name, dispatch())).to_vec())
        }
    }

    /// Tunes three nodes with a clock that passes a second each time somebody looks, and gives the number of launches that
    /// are on record afterwards.
    fn tried(gpu: &Gpu, limit: Duration) -> usize {
        let mut builder = Builder::new();
        let x = builder.input("x", [4], DType::F32).unwrap();
        for i in 0..3 {
            builder.op(Idle(i), &[x]).unwrap();
        }
        let graph = builder.finish();
        let mut offers = Vec::new();
        for node in graph.nodes() {
            let (inputs, outputs) = graph.node_descs(node);
            let io = Io { inputs: &inputs, outputs: &outputs, constant: &[], epilogue: &node.epilogue };
            let (key, launches) = (key(node.op.as_ref(), &io), node.op.launches(&io, gpu.tier()).unwrap());
            offers.push(Offer { node, key, inputs, constant: vec![false], launches, flops: 4, bytes: 32 });
        }
        let time = Cell::new(Duration::ZERO);
        let clock = || {
            time.set(time.get() + Duration::from_secs(1));
            time.get()
        };
        pollster::block_on(tune(gpu, &offers, Budget::new(limit, &clock))).unwrap();
        let entries = offers.iter().filter_map(|offer| gpu.choices.entry(&offer.key));
        entries.map(|entry| entry.0.len()).sum()
    }

    #[derive(Debug)]
    struct Nowhere;

    impl crate::Storage for Nowhere {
        fn load(&self, _: &str) -> Result<Option<String>, String> {
            Ok(None)
        }

        fn save(&self, _: &str, _: &str) -> Result<(), String> {
            Ok(())
        }
    }

    fn gpu() -> Gpu {
        Gpu::noop(&GpuOptions { storage: Some(Arc::new(Nowhere)), ..Default::default() })
    }

    #[test]
    fn the_budget_ends_trials_and_the_next_compilation_goes_on() {
        assert_eq!(tried(&gpu(), Duration::ZERO), 0);
        assert_eq!(tried(&gpu(), Duration::from_secs(100)), 12);
        // A candidate takes three looks at the clock: before, at its start and at its end.
        let gpu = gpu();
        let mut seen = vec![tried(&gpu, Duration::from_secs(10))];
        assert_eq!(seen, [3]);
        while seen.len() < 8 {
            seen.push(tried(&gpu, Duration::from_secs(10)));
        }
        assert_eq!(seen.last(), Some(&12), "{seen:?}");
    }
}
