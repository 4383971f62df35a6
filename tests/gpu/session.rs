//! Sessions: states, runtime scalars, memory, repeatability.

use std::collections::HashMap;

use kiln::engine::{CompileOptions, Gpu, Session};
use kiln::graph::ops::Unary;
use kiln::graph::{Builder, DType, Tensor};
use libtest_mimic::{Failed, Trial};

fn expect(what: &str, found: &[f32], wanted: &[f32]) -> Result<(), Failed> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}").into()) }
}

/// A state counts the runs; a runtime scalar is added to it without compiling anything.
fn states_live_from_run_to_run(gpu: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let step = b.input("step", [], DType::F32)?;
    let count = b.state("count", [5], DType::F32)?;
    let next = b.add(count, step)?;
    b.update(count, next)?;
    let shown = b.unary(Unary::Affine { scale: 10.0, offset: 0.0 }, count)?;
    b.output("shown", shown)?;
    let graph = b.finish();
    let session = Session::compile_blocking(gpu, &graph, &HashMap::new(), &CompileOptions::default())?;
    for (step, shown) in [(1.0, 0.0), (2.0, 10.0), (0.0, 30.0), (0.0, 30.0)] {
        let out = session.run_blocking(&[("step", Tensor::scalar(step))])?;
        expect("count", out[0].as_f32().unwrap_or_default(), &[shown; 5])?;
    }
    pollster::block_on(session.reset())?;
    let out = session.run_blocking(&[("step", Tensor::scalar(1.0))])?;
    expect("count after a reset", out[0].as_f32().unwrap_or_default(), &[0.0; 5])
}

fn outputs_may_be_inputs_or_constants(gpu: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [3], DType::F32)?;
    let k = b.constant(Tensor::f32([2], vec![7.0, 8.0])?);
    let k2 = b.unary(Unary::Neg, k)?;
    for (name, value) in [("x", x), ("again", x), ("k", k), ("k2", k2)] {
        b.output(name, value)?;
    }
    let graph = b.finish();
    let session = Session::compile_blocking(gpu, &graph, &HashMap::new(), &CompileOptions::default())?;
    let out = session.run_blocking(&[("x", Tensor::f32([3], vec![1.0, 2.0, 3.0])?)])?;
    expect("x", out[0].as_f32().unwrap_or_default(), &[1.0, 2.0, 3.0])?;
    expect("again", out[1].as_f32().unwrap_or_default(), &[1.0, 2.0, 3.0])?;
    expect("k", out[2].as_f32().unwrap_or_default(), &[7.0, 8.0])?;
    expect("k2", out[3].as_f32().unwrap_or_default(), &[-7.0, -8.0])
}

/// A chain of linear layers: activations share buffers, and the report is what the device holds.
fn memory_is_reported_and_shared(gpu: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let mut x = b.input("x", [64, 64], DType::F32)?;
    for i in 0..10 {
        let w = b.constant(Tensor::f32([64, 64], vec![i as f32 * 0.001; 64 * 64])?);
        x = b.linear(x, w, None)?;
    }
    b.output("y", x)?;
    let session = Session::compile_blocking(gpu, &b.finish(), &HashMap::new(), &CompileOptions::default())?;
    let memory = session.memory();
    let one = 64 * 64 * 4;
    if memory.pool != 2 * one || memory.pool_buffers != 2 || memory.lower_bound != 2 * one {
        return Err(format!("ten layers need two buffers of {one} bytes: {memory:?}").into());
    }
    if memory.weights < 10 * one {
        Err(format!("the weights are missing: {memory:?}").into())
    } else {
        Ok(())
    }
}

fn runs_repeat_bit_for_bit(gpu: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [70, 130], DType::F32)?;
    let w = b.input("w", [50, 130], DType::F32)?;
    let y = b.linear(x, w, None)?;
    b.output("y", y)?;
    let session = Session::compile_blocking(gpu, &b.finish(), &HashMap::new(), &CompileOptions::default())?;
    let fill = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let inputs =
        [("x", Tensor::f32([70, 130], fill(70 * 130))?), ("w", Tensor::f32([50, 130], fill(50 * 130))?)];
    let first = session.run_blocking(&inputs)?;
    for _ in 0..5 {
        if session.run_blocking(&inputs)? != first {
            return Err("two runs differ".into());
        }
    }
    Ok(())
}

fn profile_times_every_node(gpu: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [64, 64], DType::F32)?;
    let y = b.scope("layer", |b| b.linear(x, x, None))?;
    b.output("y", y)?;
    let session = Session::compile_blocking(gpu, &b.finish(), &HashMap::new(), &CompileOptions::default())?;
    let profile = session.profile_blocking(&[("x", Tensor::f32([64, 64], vec![1.0; 64 * 64])?)])?;
    match &profile.rows[..] {
        [row] if row.path == "layer" && row.flops == 2 * 64 * 64 * 64 && row.seconds > 0.0 => Ok(()),
        rows => Err(format!("one timed product is expected: {rows:?}").into()),
    }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let tests: [(&str, fn(&Gpu) -> Result<(), Failed>); 5] = [
        ("states_live_from_run_to_run", states_live_from_run_to_run),
        ("outputs_may_be_inputs_or_constants", outputs_may_be_inputs_or_constants),
        ("memory_is_reported_and_shared", memory_is_reported_and_shared),
        ("runs_repeat_bit_for_bit", runs_repeat_bit_for_bit),
        ("profile_times_every_node", profile_times_every_node),
    ];
    tests.into_iter().map(|(name, test)| crate::trial(format!("session::{name}"), gpu, test)).collect()
}
