//! Tensors that leave f16's range: found, named, and kept in f32, on the device and on the CPU reference.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kiln::engine::{CompileOptions, Gpu, Precision, Session};
use kiln::graph::numerics::{Gate, compare};
use kiln::graph::ops::{AttentionOptions, Unary};
use kiln::graph::random::SplitMix64;
use kiln::graph::{Builder, DType, Graph, Interpreter, Tensor, Value};
use kiln::models::{Device, Runner};
use libtest_mimic::{Failed, Trial};

/// Tokens and channels.
const TOKENS: usize = 6;
const WIDTH: usize = 16;

/// Multiples of `step` from -8 to 8 times it, which f16 holds exactly where it holds these at all.
fn grid(name: &str, shape: &[usize], step: f32) -> Result<Tensor, Failed> {
    let random = SplitMix64::named(name);
    let len = shape.iter().product::<usize>() as u64;
    let values = (0..len).map(|i| ((random.unit(i) * 17.0).floor() - 8.0) * step).collect();
    Ok(Tensor::f32(shape, values)?)
}

/// A graph under construction, with its weights.
#[derive(Default)]
struct Net {
    b: Builder,
    weights: HashMap<String, Tensor>,
}

impl Net {
    /// A linear layer at `path` with weights of this size.
    fn linear(&mut self, path: &str, x: Value, step: f32) -> Result<Value, Failed> {
        self.weights.insert(format!("{path}.weight"), grid(path, &[WIDTH, WIDTH], step)?);
        Ok(self.b.scope(path, |b| {
            let weight = b.weight("weight", [WIDTH, WIDTH])?;
            b.linear(x, weight, None)
        })?)
    }

    fn mlp(&mut self, x: Value, up: f32, down: f32) -> Result<Value, Failed> {
        let y = self.linear("fc1", x, up)?;
        let y = self.b.scope("act", |b| b.unary(Unary::Gelu, y))?;
        self.linear("fc2", y, down)
    }

    fn attention(&mut self, x: Value, value: f32) -> Result<Value, Failed> {
        let (q, k) = (self.linear("q", x, 0.03125)?, self.linear("k", x, 0.03125)?);
        let v = self.linear("v", x, value)?;
        let options = AttentionOptions::heads(2);
        let y = self.b.scope("attend", |b| b.scaled_dot_product_attention(q, k, v, &options))?;
        self.linear("out", y, 0.03125 / value)
    }

    /// Attention by its parts, with a mask that hides the last key.
    fn softmax(&mut self, x: Value, size: f32) -> Result<Value, Failed> {
        let (q, k) = (self.linear("q", x, size)?, self.linear("k", x, size)?);
        let row = (0..TOKENS).map(|i| if i + 1 == TOKENS { -1e9 } else { 0.0 }).collect();
        let mask = Tensor::f32([1, 1, TOKENS], row)?;
        let b = &mut self.b;
        let k = b.scope("transpose", |b| b.permute(k, [0, 2, 1]))?;
        let scores = b.scope("scores", |b| b.matmul(q, k))?;
        let mask = b.constant(mask);
        let scores = b.scope("masked", |b| b.add(scores, mask))?;
        let shares = b.scope("softmax", |b| b.softmax(scores, -1))?;
        Ok(b.scope("mix", |b| b.matmul(shares, x))?)
    }

    /// Four blocks, each of which adds to the stream.
    fn residual(&mut self, mut x: Value, size: f32) -> Result<Value, Failed> {
        let bias = Tensor::f32([WIDTH], (0..WIDTH).map(|i| i as f32 * size).collect())?;
        let bias = self.b.constant(bias);
        for i in 0..4 {
            x = self.b.scope(format!("block{i}"), |b| {
                let y = b.scope("norm", |b| b.layer_norm_over(x, 1, None, None, 1e-5))?;
                let y = b.scope("branch", |b| b.add(y, bias))?;
                b.add(x, y)
            })?;
        }
        Ok(self.b.scope("final", |b| b.layer_norm_over(x, 1, None, None, 1e-5))?)
    }

    fn exponential(&mut self, x: Value) -> Result<Value, Failed> {
        let y = self.b.scope("exp", |b| b.unary(Unary::Exp, x))?;
        self.linear("fc", y, 0.125)
    }
}

/// A graph from `[1, TOKENS, WIDTH]` to the same.
struct Case {
    name: &'static str,
    build: fn(&mut Net, Value) -> Result<Value, Failed>,
    /// Size of the input.
    step: f32,
    /// Whom a run in f16 names, and whom one in f32.
    half: &'static [&'static str],
    wide: &'static [&'static str],
    /// Paths that stay f32.
    kept: &'static [&'static str],
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "mlp", build: |n, x| n.mlp(x, 4096.0, 2f32.powi(-13)), step: 0.5,
        half: &["act"], wide: &["act"], kept: &["fc1", "act", "fc2"] },
    Case { name: "mlp_in_range", build: |n, x| n.mlp(x, 0.125, 0.125), step: 0.5,
        half: &[], wide: &[], kept: &[] },
    Case { name: "attention", build: |n, x| n.attention(x, 4096.0), step: 0.5,
        half: &["attend"], wide: &["attend"], kept: &["attend", "q", "k", "v", "out"] },
    Case { name: "attention_in_range", build: |n, x| n.attention(x, 0.03125), step: 0.5,
        half: &[], wide: &[], kept: &[] },
    Case { name: "softmax", build: |n, x| n.softmax(x, 8.0), step: 0.5,
        half: &["masked"], wide: &["masked"], kept: &["scores", "masked", "softmax"] },
    Case { name: "softmax_with_a_mask", build: |n, x| n.softmax(x, 0.03125), step: 0.5,
        half: &[], wide: &[], kept: &[] },
    Case { name: "residual", build: |n, x| n.residual(x, 1800.0), step: 0.5,
        half: &["block2"], wide: &["block2", "block3"],
        kept: &["block2", "block2.norm", "block2.branch", "block3", "block3.norm", "block3.branch", "final"] },
    Case { name: "residual_in_range", build: |n, x| n.residual(x, 100.0), step: 0.5,
        half: &[], wide: &[], kept: &[] },
    Case { name: "input", build: |n, x| n.linear("fc", x, 2f32.powi(-14)), step: 10240.0,
        half: &["x"], wide: &["x"], kept: &["fc"] },
    Case { name: "weight", build: |n, x| n.mlp(x, 16384.0, 0.125), step: 0.000_976_562_5,
        half: &["fc1.weight"], wide: &[], kept: &["fc1", "act"] },
];

impl Case {
    fn net(&self) -> Result<(Graph, HashMap<String, Tensor>, Tensor), Failed> {
        let mut net = Net::default();
        let x = net.b.input("x", [1, TOKENS, WIDTH], DType::F32)?;
        let y = (self.build)(&mut net, x)?;
        net.b.output("y", y)?;
        Ok((net.b.finish(), net.weights, grid("x", &[1, TOKENS, WIDTH], self.step)?))
    }
}

fn names(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| path.to_string()).collect()
}

fn expect<T: std::fmt::Debug + PartialEq>(what: &str, found: &T, wanted: &T) -> Result<(), Failed> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}").into()) }
}

/// Finite, and within the gate of f16 where several roundings follow each other.
fn right(found: &[Tensor], wanted: &[Tensor]) -> Result<(), Failed> {
    for (found, wanted) in found.iter().zip(wanted) {
        let gate = Gate::Close { nmse: 1e-5, atol: f64::INFINITY, rtol: 0.0 };
        let comparison = compare(wanted, found, gate, None);
        if !comparison.passed || found.to_f64().iter().any(|v| !v.is_finite()) {
            return Err(format!("{comparison:?}: {found:?} instead of {wanted:?}").into());
        }
    }
    Ok(())
}

fn runner(device: &Device, graph: &Graph, weights: HashMap<String, Tensor>) -> Result<Runner, Failed> {
    let (weights, progress) = (Arc::new(weights), &mut |_, _| {});
    let new = Runner::new(device, graph, weights, Precision::F16, BTreeSet::new(), progress);
    Ok(pollster::block_on(new)?)
}

/// f16 gives f32's numbers, with what has to be f32 in f32.
fn runs_in_range(case: &Case, device: &Device) -> Result<(), Failed> {
    let (graph, weights, x) = case.net()?;
    let wanted = Interpreter::new(graph.clone(), &weights)?.run(&[("x", x.clone())])?;
    let mut runner = runner(device, &graph, weights)?;
    for _ in 0..2 {
        right(&pollster::block_on(runner.run(&[("x", x.clone())]))?, &wanted)?;
        expect("kept", runner.kept_f32(), &names(case.kept))?;
    }
    Ok(())
}

/// A session names who leaves the range, and nobody who only follows.
fn names_who_leaves(case: &Case, gpu: &Gpu) -> Result<(), Failed> {
    let (graph, weights, x) = case.net()?;
    for (precision, wanted) in [(Precision::F16, case.half), (Precision::F32, case.wide)] {
        let options = CompileOptions { precision, guard: true, ..Default::default() };
        let session = Session::compile_blocking(gpu, &graph, &weights, &options)?;
        let (outputs, found) = session.run_checked_blocking(&[("x", x.clone())])?;
        let found: BTreeSet<String> = found.into_iter().map(|tensor| tensor.path).collect();
        expect(&format!("{precision:?}"), &found, &names(wanted))?;
        // Looking changes nothing.
        let plain = session.run_blocking(&[("x", x.clone())])?;
        let bits = |tensors: &[Tensor]| tensors.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
        expect("outputs", &bits(&outputs), &bits(&plain))?;
    }
    Ok(())
}

/// An input that leaves the range after others that did not.
fn later_inputs_count_too(device: &Device) -> Result<(), Failed> {
    let (graph, weights, x) = CASES[0].net()?;
    let wanted = Interpreter::new(graph.clone(), &weights)?.run(&[("x", x.clone())])?;
    let mut runner = runner(device, &graph, weights)?;
    let zeros = Tensor::zeros(&x.desc());
    right(&pollster::block_on(runner.run(&[("x", zeros.clone())]))?, &[zeros])?;
    expect("kept at first", runner.kept_f32(), &names(&[]))?;
    right(&pollster::block_on(runner.run(&[("x", x)]))?, &wanted)?;
    expect("kept", runner.kept_f32(), &names(CASES[0].kept))
}

/// What f32 does not hold either is given as it is.
fn infinities_of_f32_end_the_search(device: &Device) -> Result<(), Failed> {
    let case = Case { build: |n, x| n.exponential(x), step: 20.0, ..CASES[0] };
    let (graph, weights, x) = case.net()?;
    let mut runner = runner(device, &graph, weights)?;
    for _ in 0..2 {
        let outputs = pollster::block_on(runner.run(&[("x", x.clone())]))?;
        if outputs[0].to_f64().iter().all(|v| v.is_finite()) {
            return Err("the case shows nothing".into());
        }
    }
    Ok(())
}

/// A test of a runner on the CPU, and on the device where it has f16.
fn both(
    gpu: &Result<Gpu, String>,
    name: &str,
    test: impl Fn(&Device) -> Result<(), Failed> + Clone + Send + 'static,
) -> [Trial; 2] {
    let on_gpu = test.clone();
    [
        Trial::test(format!("range::{name}_on_the_cpu"), move || test(&Device::Cpu)),
        with_f16(gpu, name, move |gpu| on_gpu(&Device::Gpu(gpu.clone()))),
    ]
}

/// Ignored on a device without f16.
fn with_f16(
    gpu: &Result<Gpu, String>,
    name: &str,
    test: impl FnOnce(&Gpu) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let missing = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    let trial = crate::trial(format!("range::{name}"), gpu, test);
    if missing { trial.with_ignored_flag(true) } else { trial }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in CASES {
        trials.extend(both(gpu, case.name, |device| runs_in_range(case, device)));
        trials.push(with_f16(gpu, &format!("names_{}", case.name), |gpu| names_who_leaves(case, gpu)));
    }
    trials.extend(both(gpu, "later_inputs_count_too", later_inputs_count_too));
    trials.extend(both(gpu, "infinities_of_f32_end_the_search", infinities_of_f32_end_the_search));
    trials
}
