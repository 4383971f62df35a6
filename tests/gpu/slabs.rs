//! Ops that cut their work where a tensor is larger than a binding may be, on a device that allows next to nothing.

use kiln::engine::suite::{CaseRun, Outcome};
use kiln::engine::{Gpu, GpuOptions, wgpu};
use kiln::graph::DType;
use kiln::graph::registry::FAMILIES;
use libtest_mimic::{Failed, Trial};

/// Bytes of a binding. Most cases have larger tensors, and few have rows that do not fit.
const LIMIT: u64 = 1024;

/// Families that cut, and how many of their launches must need it and pass.
const CUT: [(&str, usize); 5] =
    [("interpolate", 15), ("pool", 15), ("pad", 10), ("pixel_shuffle", 2), ("grid_sample", 1)];

fn small() -> Result<Gpu, Failed> {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: LIMIT as _, ..wgpu::Limits::defaults() };
    let options = GpuOptions { limits: Some(limits), ..Default::default() };
    Gpu::open_blocking(&options).map_err(|error| Failed::from(error.to_string()))
}

fn check(name: &str, at_least: usize) -> Result<(), Failed> {
    let gpu = small()?;
    let family = FAMILIES.iter().find(|family| family.name == name).ok_or("there is no such family")?;
    let (mut cut, mut failures) = (0, Vec::new());
    for case in (family.cases)() {
        let descs: Vec<_> = case.tensors(DType::F32)?.iter().map(|tensor| tensor.desc()).collect();
        let outputs = case.op.infer(&descs)?;
        let larger = descs.iter().chain(&outputs).any(|desc| desc.bytes() as u64 > LIMIT);
        if !larger {
            continue;
        }
        for report in (CaseRun { family: family.name, case, dtype: DType::F32 }).check_blocking(&gpu) {
            match report.outcome {
                Outcome::Passed => cut += 1,
                // Single rows, and pictures that are sampled anywhere, that no binding holds.
                Outcome::Failed(reason) if reason.contains("bindings of more than") => {}
                outcome => failures.push(format!("{} {}: {outcome:?}", report.id, report.launch)),
            }
        }
    }
    if cut < at_least {
        failures.push(format!("{cut} launches were cut instead of {at_least}"));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    CUT.into_iter()
        .map(|(name, at_least)| crate::trial(format!("slabs::{name}"), gpu, move |_| check(name, at_least)))
        .collect()
}
