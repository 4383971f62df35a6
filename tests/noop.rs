//! The suite's negative control: on a device that computes nothing, every case with an answer other than zero fails.

use kiln::engine::suite::{CaseRun, Outcome, all_cases};
use kiln::engine::{Gpu, GpuOptions};

/// Whether the answer is what the engine copies before any kernel runs: a cache that nothing is appended to.
fn is_copy(run: &CaseRun) -> bool {
    let inputs = run.case.tensors(run.dtype).expect("inputs of a case");
    let (expected, _) = run.case.expected(&inputs).expect("a case's definition");
    run.case.op.starts_as().iter().any(|&(input, output)| inputs[input] == expected[output])
}

#[test]
fn a_device_that_does_nothing_fails_every_case_with_an_answer() {
    let gpu = Gpu::noop(&GpuOptions::default());
    let (mut failed, mut passed) = (0, Vec::new());
    for run in all_cases(false) {
        if !run.is_nonzero().expect("a case's definition") || run.case.op.is_view() || is_copy(&run) {
            continue;
        }
        for report in run.check_blocking(&gpu) {
            match report.outcome {
                Outcome::Passed => passed.push(format!("{} {}", report.id, report.launch)),
                Outcome::Failed(_) => failed += 1,
                Outcome::Skipped(_) => {}
            }
        }
    }
    assert!(failed > 100, "only {failed} cases ran");
    assert!(passed.is_empty(), "passed without computing anything: {passed:#?}");
}
