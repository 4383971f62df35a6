//! Ops on tensors larger than a binding may be, on a device that allows next to nothing.

use kiln::engine::suite::{CaseRun, Outcome};
use kiln::engine::{Gpu, GpuOptions, wgpu};
use kiln::graph::DType;
use kiln::graph::registry::FAMILIES;
use libtest_mimic::{Failed, Trial};

/// Bindings that the largest tensor which is tried is cut into: it comes to hundreds of dispatches.
const MOST_BINDINGS: u64 = 64;

/// What is expected of a family.
struct Expected {
    family: &'static str,
    /// Bytes of a binding: few enough that most cases have larger tensors, while most of their rows fit.
    limit: u64,
    /// Launches that must have been cut and pass.
    cut: usize,
    /// Cases that may be refused, since the smallest part of their work does not fit.
    refused: usize,
}

const fn family(family: &'static str, limit: u64, cut: usize, refused: usize) -> Expected {
    Expected { family, limit, cut, refused }
}

#[rustfmt::skip]
const EXPECTED: &[Expected] = &[
    family("attention", 16384, 22, 18),
    family("kv_cache", 256, 8, 0),
    family("binary", 1024, 16, 0),
    family("cast", 256, 1, 0),
    family("compare", 256, 9, 0),
    family("gate", 1024, 4, 0),
    family("select", 256, 3, 0),
    family("unary", 1024, 38, 0),
    family("batch_norm", 512, 3, 0),
    family("group_norm", 16384, 8, 2),
    family("l2_normalize", 2048, 5, 1),
    family("layer_norm", 1024, 38, 5),
    family("softmax", 1024, 30, 6),
    family("grid_sample", 1024, 36, 0),
    family("interpolate", 1024, 26, 23),
    family("max_unpool", 512, 3, 0),
    family("pool", 1024, 15, 8),
    family("concat", 256, 6, 0),
    family("gather", 256, 7, 0),
    family("pad", 1024, 17, 0),
    family("permute", 1024, 8, 0),
    family("pixel_shuffle", 1024, 2, 2),
    family("repeat", 1024, 6, 0),
    family("roll", 1024, 4, 0),
    family("scatter", 512, 6, 0),
    family("slice", 1024, 9, 0),
    family("arg_reduce", 1024, 20, 2),
    family("cumsum", 512, 6, 4),
    family("reduce", 1024, 44, 5),
    family("top_k", 1024, 12, 4),
    family("nearest_code", 4096, 2, 3),
    family("sine_position_2d", 8192, 2, 2),
    family("timestep_embedding", 1024, 1, 1),
    family("rope", 1024, 4, 0),
    family("boxes", 1024, 14, 0),
    family("roi_align", 8192, 4, 0),
    family("selective_scan", 1024, 4, 2),
];

fn open(limit: u64) -> Result<Gpu, Failed> {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: limit as _, ..wgpu::Limits::defaults() };
    let options = GpuOptions { limits: Some(limits), ..crate::options() };
    Gpu::open_blocking(&options).map_err(|error| Failed::from(error.to_string()))
}

fn check(expected: &Expected) -> Result<(), Failed> {
    let (name, limit) = (expected.family, expected.limit);
    let gpu = open(limit)?;
    let family = FAMILIES.iter().find(|family| family.name == name).ok_or("there is no such family")?;
    let (mut cut, mut refused, mut failures) = (0, Vec::new(), Vec::new());
    for case in (family.cases)() {
        for &dtype in case.dtypes.iter().filter(|&&dtype| dtype == DType::F32 || gpu.tier().f16) {
            let descs: Vec<_> = case.tensors(dtype)?.iter().map(|tensor| tensor.desc()).collect();
            let outputs = case.op.infer(&descs[..descs.len() - case.epilogue.operands()])?;
            let largest = descs.iter().chain(&outputs).map(|desc| desc.bytes() as u64).max().unwrap_or(0);
            if largest <= limit || largest > MOST_BINDINGS * limit {
                continue;
            }
            let run = CaseRun { family: family.name, case: case.clone(), dtype };
            for report in run.check_blocking(&gpu) {
                match report.outcome {
                    // Counts are those of f32, which every device has.
                    Outcome::Passed => cut += usize::from(dtype == DType::F32),
                    Outcome::Failed(reason) if reason.contains("bindings of more than") => {
                        refused.extend((dtype == DType::F32).then_some(reason));
                    }
                    outcome => failures.push(format!("{} {}: {outcome:?}", report.id, report.launch)),
                }
            }
        }
    }
    println!("{name}: {cut} launches were cut, {} cases refused", refused.len());
    if cut < expected.cut {
        failures.push(format!("{cut} launches were cut instead of {}", expected.cut));
    }
    if refused.len() > expected.refused {
        failures.push(format!("{} cases were refused instead of {}:", refused.len(), expected.refused));
        failures.append(&mut refused);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let trial = |expected: &'static Expected| {
        crate::trial(format!("slabs::{}", expected.family), gpu, move |_| check(expected))
    };
    EXPECTED.iter().map(trial).collect()
}
