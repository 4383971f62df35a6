//! `kiln bench`: speed, as a share of what this device can do.

mod peak;
mod shapes;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use kiln::engine::{CompileOptions, Gpu, Precision, Profile, Session};
use kiln::graph::random::SplitMix64;
use kiln::graph::{DType, Graph, Tensor};
use kiln::models::{Device, ModelProfile};
use serde_json::{Value as Json, json};

use crate::Outcome;
use crate::check::device_json;
use crate::device::{DeviceArgs, PrecisionKind};
use crate::opened::Opened;
use crate::output::{Pending, bar, say, spinner};
use peak::Peak;

/// Measure speed on this device: op by op at common shapes, or a model.
///
/// The share is of what a kernel of multiply-adds and a copy reach in the same run, whichever is nearer. With --op, a
/// second line shows the time of every kernel that the op offers here, which is what the tuner chooses by.
#[derive(clap::Args)]
pub struct Args {
    /// One op family.
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    op: Option<String>,
    /// A model instead of ops: a folder, hub:owner/name, or a bundled name.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
    /// Write a report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs a measurement; the fastest counts, since everything else disturbs and nothing helps.
const RUNS: usize = 3;
/// A measurement ends after so many seconds.
const PATIENCE: f64 = 3.0;

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let shapes = shapes::all();
    if let Some(op) = &args.op
        && !shapes.iter().any(|shape| shape.op == op)
    {
        let mut names: Vec<&str> = shapes.iter().map(|shape| shape.op).collect();
        names.dedup();
        bail!("there is no bench of {op:?}; there is {}", names.join(", "));
    }
    let report = args.json.as_deref().map(Pending::create).transpose()?;
    let gpu = device.open()?;
    if args.precision == PrecisionKind::F16 && !gpu.tier().f16 {
        bail!("{} does not offer 16-bit floats (shader-f16)", gpu.info().name);
    }
    say!("on {}", gpu.describe());
    let progress = spinner("measuring the device");
    let peak = Peak::measure(&gpu);
    progress.finish_and_clear();
    let peak = peak?;
    say!(
        "the device reaches {:.1} GFLOP/s in f32 multiply-adds and copies {:.1} GB/s\n",
        peak.gflops,
        peak.gbytes
    );
    let mut json = device_json(&gpu);
    json["peak"] = json!({ "gflops": peak.gflops, "gbytes": peak.gbytes });
    if let Some(model) = &args.model {
        json["model"] = bench_model(model, &gpu, args.precision, &peak)?;
    } else {
        let chosen: Vec<_> =
            shapes.into_iter().filter(|shape| args.op.as_deref().is_none_or(|op| op == shape.op)).collect();
        let progress = bar(chosen.len(), "shapes");
        let mut rows = Vec::new();
        say!("{:>10} {:>9} {:>8} {:>6}", "ms", "GFLOP/s", "GB/s", "share");
        for shape in &chosen {
            let graph = (shape.build)()?;
            match measure(&gpu, &graph, Precision::from(args.precision), None) {
                Ok(found) => {
                    progress.suspend(|| found.print(&peak, &format!("{} {}", shape.op, shape.label)));
                    let mut row = found.json(&peak);
                    row["launch"] = json!(found.launch);
                    if args.op.is_some() && found.offered.len() > 1 {
                        let times = launch_times(&gpu, &graph, Precision::from(args.precision), &found)?;
                        progress.suspend(|| print_launches(&times, &found));
                        row["launches"] =
                            times.iter().map(|(name, s)| (name.to_string(), json!(s))).collect();
                    }
                    row["op"] = json!(shape.op);
                    row["shape"] = json!(shape.label);
                    rows.push(row);
                }
                // A small device may not hold a shape; the others still count.
                Err(error) => {
                    progress.suspend(|| say!("{:>36} {} {}: {error}", "", shape.op, shape.label));
                    rows.push(json!({ "op": shape.op, "shape": shape.label, "error": error.to_string() }));
                }
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        json["shapes"] = Json::Array(rows);
    }
    if let Some(report) = report {
        report.commit(&serde_json::to_vec_pretty(&json)?)?;
    }
    Ok(Outcome::Done)
}

/// The fastest of some runs.
pub struct Measured {
    seconds: f64,
    flops: u64,
    bytes: u64,
    /// The launch that the dearest node took, and all that it could take, best guess first.
    launch: &'static str,
    offered: Vec<&'static str>,
}

/// Seconds of every launch that the dearest node could take.
fn launch_times(
    gpu: &Gpu,
    graph: &Graph,
    precision: Precision,
    found: &Measured,
) -> Result<Vec<(&'static str, f64)>> {
    let time = |&name: &&'static str| {
        let taken = name == found.launch;
        let seconds = if taken { found.seconds } else { measure(gpu, graph, precision, Some(name))?.seconds };
        Ok((name, seconds))
    };
    found.offered.iter().map(time).collect()
}

fn print_launches(times: &[(&'static str, f64)], found: &Measured) {
    let show = |(name, seconds): &(&'static str, f64)| {
        let taken = if *name == found.launch { " (taken)" } else { "" };
        format!("{name} {:.3} ms{taken}", seconds * 1e3)
    };
    say!("{:>38}{}", "", times.iter().map(show).collect::<Vec<_>>().join(", "));
}

impl Measured {
    /// A profile's sums, and its dearest node's launches.
    fn of(profile: &Profile) -> Self {
        let dearest = profile.rows.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Self {
            seconds: profile.seconds(),
            flops: profile.rows.iter().map(|row| row.flops).sum(),
            bytes: profile.rows.iter().map(|row| row.bytes).sum(),
            launch: dearest.map_or("", |row| row.launch),
            offered: dearest.map(|row| row.offered.clone()).unwrap_or_default(),
        }
    }

    fn gflops(&self) -> f64 {
        self.flops as f64 / self.seconds.max(1e-12) / 1e9
    }

    fn gbytes(&self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-12) / 1e9
    }

    fn share(&self, peak: &Peak) -> f64 {
        (self.gflops() / peak.gflops).max(self.gbytes() / peak.gbytes)
    }

    fn print(&self, peak: &Peak, what: &str) {
        say!(
            "{:>10.3} {:>9.1} {:>8.1} {:>5.1}%  {what}",
            self.seconds * 1e3,
            self.gflops(),
            self.gbytes(),
            self.share(peak) * 100.0
        );
    }

    fn json(&self, peak: &Peak) -> Json {
        json!({
            "seconds": self.seconds, "gflops": self.gflops(), "gbytes": self.gbytes(), "share": self.share(peak),
        })
    }
}

/// Random inputs of a graph.
pub fn inputs(graph: &Graph) -> Result<Vec<(String, Tensor)>> {
    let capacity = graph.states().filter_map(|(_, value)| graph.desc(value).shape.get(1)).max();
    let fill = |(name, value): (&str, kiln::graph::Value)| {
        let desc = graph.desc(value);
        // A place in a cache is the last, which is the dearest.
        if desc.dtype == DType::U32 && desc.shape.is_empty() {
            let last = capacity.map_or(0, |&capacity| capacity.saturating_sub(1) as u32);
            return Ok((name.to_string(), Tensor::u32([], vec![last])?));
        }
        let sequence = SplitMix64::named(name);
        let values: Vec<f32> = (0..desc.len()).map(|i| sequence.unit(i as u64) * 2.0 - 1.0).collect();
        Ok((name.to_string(), Tensor::f32(desc.shape.clone(), values)?.cast(desc.dtype)))
    };
    graph.inputs().map(fill).collect()
}

/// Time of a graph's kernels on a device, with the launch that is asked for or the one that a model would take.
pub fn measure(gpu: &Gpu, graph: &Graph, precision: Precision, launch: Option<&str>) -> Result<Measured> {
    let options = CompileOptions { precision, launch: launch.map(Into::into), ..Default::default() };
    let session = Session::compile_blocking(gpu, graph, &HashMap::new(), &options)?;
    let inputs = inputs(graph)?;
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    let start = Instant::now();
    // The first run pays for what drivers do late.
    let mut best = Measured::of(&session.profile_blocking(&inputs)?);
    for _ in 0..RUNS {
        let profile = session.profile_blocking(&inputs)?;
        best.seconds = best.seconds.min(profile.seconds());
        if start.elapsed().as_secs_f64() > PATIENCE {
            break;
        }
    }
    Ok(best)
}

fn bench_model(model: &str, gpu: &Gpu, precision: PrecisionKind, peak: &Peak) -> Result<Json> {
    let progress = spinner("compiling and running");
    let start = Instant::now();
    let mut opened = Opened::open(model, Device::Gpu(gpu.clone()), Precision::from(precision), None)?;
    opened.run()?;
    let first = start.elapsed().as_secs_f64();
    let mut whole = f64::INFINITY;
    let runs = Instant::now();
    for i in 0..10 {
        let start = Instant::now();
        opened.run()?;
        whole = whole.min(start.elapsed().as_secs_f64());
        if i > 1 && runs.elapsed().as_secs_f64() > PATIENCE {
            break;
        }
    }
    let profiled = opened.profile(None);
    progress.finish_and_clear();
    let Some(ModelProfile { profile, memory, compile }) = profiled? else {
        bail!("only a GPU can be measured")
    };
    crate::profile::show_compile(&compile);
    let kernels = Measured::of(&profile);
    say!("opened, compiled and run        {:>10.1} ms", first * 1e3);
    say!("a run, processed and read       {:>10.2} ms", whole * 1e3);
    say!("its kernels alone               {:>10.2} ms", kernels.seconds * 1e3);
    say!("\n{:>10} {:>9} {:>8} {:>6}", "ms", "GFLOP/s", "GB/s", "share");
    kernels.print(peak, model);
    crate::profile::show_memory(&memory);
    let mut json = kernels.json(peak);
    json["model"] = json!(model);
    json["first_seconds"] = json!(first);
    json["picture_seconds"] = json!(whole);
    json["compile_seconds"] = json!({
        "weights": compile.weights, "packing": compile.packing, "pipelines": compile.pipelines,
        "tuning": compile.tuning,
    });
    json["memory_bytes"] = json!(memory.total());
    Ok(json)
}

/// A random f32 constant.
fn random(shape: &[usize]) -> Result<Tensor> {
    let sequence = SplitMix64::new(7);
    let len: usize = shape.iter().product();
    let values: Vec<f32> = (0..len).map(|i| (sequence.unit(i as u64) * 2.0 - 1.0) * 0.1).collect();
    Ok(Tensor::f32(shape, values)?.cast(DType::F32))
}
