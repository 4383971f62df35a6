//! Every kernel against its definition.

use kiln::engine::Gpu;
use kiln::engine::suite::{Outcome, all_cases};
use libtest_mimic::{Failed, Trial};

/// One test a case and type; it covers every launch that the op offers on the device.
pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let supported = |dtype| dtype != kiln::graph::DType::F16 || gpu.as_ref().is_ok_and(|gpu| gpu.tier().f16);
    all_cases(false)
        .into_iter()
        .map(|run| {
            let ignored = !supported(run.dtype);
            let trial = crate::trial(format!("parity::{}", run.id()), gpu, move |gpu| {
                let failures: Vec<String> = run
                    .check_blocking(gpu)
                    .into_iter()
                    .filter_map(|report| match report.outcome {
                        Outcome::Passed => None,
                        Outcome::Failed(reason) => Some(format!("{}: {reason}", report.launch)),
                        Outcome::Skipped(reason) => Some(format!("skipped: {reason}")),
                    })
                    .collect();
                if failures.is_empty() { Ok(()) } else { Err(Failed::from(failures.join("\n"))) }
            });
            // A device without f16 cannot run f16 cases: that is no failure, and no success either.
            if ignored && gpu.is_ok() { trial.with_ignored_flag(true) } else { trial }
        })
        .collect()
}
