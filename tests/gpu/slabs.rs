//! Ops on tensors larger than a binding may be, on a device that allows next to nothing.

use std::collections::HashMap;

use kiln::engine::suite::{CaseRun, Outcome};
use kiln::engine::{CompileOptions, Error, Gpu, GpuOptions, Session, wgpu};
use kiln::graph::numerics::{Gate, compare};
use kiln::graph::ops::Conv2d;
use kiln::graph::registry::FAMILIES;
use kiln::graph::{Builder, DType, Graph, GraphError, Tensor};
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
    family("matmul", 16 << 10, 92, 0),
    family("conv1d", 4096, 5, 1),
    family("conv2d", 8192, 13, 0),
    family("conv_transpose2d", 8192, 3, 0),
    family("attention", 16384, 17, 16),
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
    family("softmax", 1024, 32, 6),
    family("grid_sample", 1024, 18, 0),
    family("interpolate", 1024, 32, 2),
    family("max_unpool", 512, 3, 0),
    family("pool", 1024, 22, 2),
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
    family("nearest_code", 4096, 2, 11),
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
    for case in (family.cases)().into_iter().filter(|case| !case.full) {
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

/// A fixed sequence of numbers between -1 and 1.
fn numbers(shape: &[usize], seed: f32) -> Result<Tensor, Failed> {
    let len: usize = shape.iter().product();
    Ok(Tensor::f32(shape, (0..len).map(|i| (i as f32 * 0.37 + seed).sin()).collect())?)
}

/// A decoder's block and an embedding, every tensor of it larger than 8 KiB but for the weights.
fn decoder_block() -> Result<Graph, Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [1, 24, 24, 8], DType::F32)?;
    let weight = b.constant(numbers(&[16, 8, 3, 3], 1.0)?);
    let x = b.conv2d(x, weight, None, Conv2d::default().padding(1))?;
    let (scale, offset) = (b.constant(numbers(&[16], 2.0)?), b.constant(numbers(&[16], 3.0)?));
    let y = b.group_norm(x, 4, Some(scale), Some(offset), 1e-6)?;
    let y = b.silu(y)?;
    let y = b.add(x, y)?;
    let y = b.upsample_nearest_2x(y)?;
    let y = b.permute(y, [0, 3, 1, 2])?;
    let y = b.softmax(y, 1)?;
    b.output("y", y)?;
    let table = b.constant(numbers(&[300, 16], 4.0)?);
    let ids = b.input("ids", [160], DType::I32)?;
    let rows = b.embedding(ids, table)?;
    b.output("rows", rows)?;
    Ok(b.finish())
}

/// A graph whose tensors are all cut gives the numbers that it gives whole.
fn graph_of_large_tensors(gpu: &Gpu) -> Result<(), Failed> {
    let graph = decoder_block()?;
    let ids = Tensor::i32([160], (0..160).map(|i| i * 47 % 300).collect())?;
    let inputs = [("x", numbers(&[1, 24, 24, 8], 0.0)?), ("ids", ids)];
    let run = |gpu: &Gpu| {
        Session::compile_blocking(gpu, &graph, &HashMap::new(), &CompileOptions::default())?
            .run_blocking(&inputs)
    };
    let (whole, cut) = (run(gpu)?, run(&open(8 << 10)?)?);
    for (i, (whole, cut)) in whole.iter().zip(&cut).enumerate() {
        let found = compare(whole, cut, Gate::default_for(DType::F32), None);
        if !found.passed {
            return Err(format!("output {i} differs: {found:?}").into());
        }
    }
    Ok(())
}

/// Where not even a part fits, compilation says which node it is.
fn rows_that_do_not_fit_are_named(_: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [2, 4096], DType::F32)?;
    let y = b.scope("head", |b| b.softmax(x, -1))?;
    b.output("y", y)?;
    let graph = b.finish();
    let options = CompileOptions::default();
    match Session::compile_blocking(&open(8 << 10)?, &graph, &HashMap::new(), &options) {
        Err(Error::Graph(GraphError::Op { path, error })) if path == "head" && error.op == "softmax" => {
            Ok(())
        }
        other => Err(format!("instead of a refusal of the node: {:?}", other.err()).into()),
    }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let trial = |expected: &'static Expected| {
        crate::trial(format!("slabs::{}", expected.family), gpu, move |_| check(expected))
    };
    let tests: [(&str, fn(&Gpu) -> Result<(), Failed>); 2] = [
        ("graph_of_large_tensors", graph_of_large_tensors),
        ("rows_that_do_not_fit_are_named", rows_that_do_not_fit_are_named),
    ];
    let graphs = tests.into_iter().map(|(name, test)| crate::trial(format!("slabs::{name}"), gpu, test));
    EXPECTED.iter().map(trial).chain(graphs).collect()
}
