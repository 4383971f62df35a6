//! `kiln profile`: time by op, and memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use kiln::engine::{CompileTimes, MemoryReport, Precision, Profile};
use kiln::models::{Device, ModelProfile};

use crate::Outcome;
use crate::bundled::{MODEL_HELP, read_picture};
use crate::device::{DeviceArgs, PrecisionKind};
use crate::devices::bytes;
use crate::opened::Opened;
use crate::output::{say, spinner};

/// Time a model by op, and show what it holds on the device.
#[derive(clap::Args)]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// A picture; a grey one of the model's size unless it is given. A UNet's step, an autoencoder's decoder and an
    /// autoencoder with a codebook take random input instead.
    picture: Option<PathBuf>,
    /// How many latents or images a UNet or an autoencoder takes.
    #[arg(long, value_name = "N", conflicts_with = "picture")]
    batch: Option<usize>,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let picture = args.picture.as_deref().map(read_picture).transpose()?;
    let gpu = device.open()?;
    say!("on {}", gpu.describe());
    let mut model = Opened::open(&args.model, Device::Gpu(gpu), Precision::from(args.precision), args.batch)?;
    let progress = spinner("compiling and running");
    let result = model.profile(picture.as_ref());
    progress.finish_and_clear();
    let Some(ModelProfile { profile, memory, compile }) = result? else {
        bail!("only a GPU can be profiled")
    };
    show_compile(&compile);
    if args.precision == PrecisionKind::F16 {
        say!("{}", kept_line(&model.kept_f32()));
    }
    show(&profile);
    show_memory(&memory);
    Ok(Outcome::Done)
}

/// Which nodes run in f32 because a tensor of theirs left f16's range.
pub fn kept_line(kept: &BTreeSet<String>) -> String {
    if kept.is_empty() {
        return "every tensor stayed within f16's range".into();
    }
    let paths: Vec<&str> = kept.iter().map(String::as_str).collect();
    format!("in f32, since a tensor left f16's range: {}", paths.join(", "))
}

/// Ops that are matrix products in the main, whose time a model cannot do without.
const PRODUCTS: [&str; 4] = ["matmul", "conv1d", "conv2d", "conv_transpose2d"];

pub fn show_compile(times: &CompileTimes) {
    say!(
        "compiled in {:.2} s: pipelines {:.2} s, packing and upload {:.2} s, reading or making weights {:.2} s, tuning {:.2} s",
        times.total(),
        times.pipelines,
        times.packing,
        times.weights,
        times.tuning
    );
}

/// Sum of some rows.
#[derive(Clone, Copy, Default)]
struct Sum {
    seconds: f64,
    flops: u64,
    bytes: u64,
    dispatches: usize,
}

fn show(profile: &Profile) {
    let (mut by_op, mut by_shape) = (BTreeMap::<String, Sum>::new(), BTreeMap::<String, Sum>::new());
    for row in &profile.rows {
        let keys = [
            (&mut by_op, row.op.to_string()),
            (&mut by_shape, format!("{} {} {}", row.op, row.launch, row.shapes)),
        ];
        for (sums, key) in keys {
            let sum = sums.entry(key).or_default();
            sum.seconds += row.seconds;
            sum.flops += row.flops;
            sum.bytes += row.bytes;
            sum.dispatches += row.dispatches;
        }
    }
    let clock =
        if profile.timestamps { "the device's clock" } else { "the host's clock, a submit a dispatch" };
    let dispatches: usize = profile.rows.iter().map(|row| row.dispatches).sum();
    say!(
        "{:.3} ms by {clock}, {} launches in {dispatches} dispatches (with reductions, and parts of long ones)",
        profile.seconds() * 1e3,
        profile.rows.len()
    );
    let products: f64 =
        by_op.iter().filter(|(op, _)| PRODUCTS.contains(&op.as_str())).map(|(_, sum)| sum.seconds).sum();
    if products > 0.0 {
        let (ms, ratio) = (products * 1e3, profile.seconds() / products);
        let named: Vec<&str> = PRODUCTS.into_iter().filter(|op| by_op.contains_key(*op)).collect();
        say!(
            "{ms:.3} ms of them in products ({}): the whole takes {ratio:.2}x its products",
            named.join(", ")
        );
    }
    for (title, sums) in [("by op", by_op), ("by op, launch and shapes", by_shape)] {
        say!("\n{title}");
        say!("{:>10} {:>6} {:>5} {:>9} {:>8}", "ms", "share", "runs", "GFLOP/s", "GB/s");
        let mut rows: Vec<(String, Sum)> = sums.into_iter().collect();
        rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        for (name, sum) in rows {
            let per_second = |count: u64| count as f64 / sum.seconds.max(1e-12) / 1e9;
            say!(
                "{:>10.3} {:>5.1}% {:>5} {:>9.1} {:>8.1}  {name}",
                sum.seconds * 1e3,
                sum.seconds / profile.seconds().max(1e-12) * 100.0,
                sum.dispatches,
                per_second(sum.flops),
                per_second(sum.bytes)
            );
        }
    }
}

pub fn show_memory(memory: &MemoryReport) {
    say!("\nmemory on the device");
    say!("  weights      {:>10}  ({} bytes)", bytes(memory.weights), memory.weights);
    say!(
        "  activations  {:>10}  ({} bytes in {} buffers; at least {} are alive at once)",
        bytes(memory.pool),
        memory.pool,
        memory.pool_buffers,
        memory.lower_bound
    );
    say!("  other        {:>10}  ({} bytes)", bytes(memory.other), memory.other);
    say!("  total        {:>10}  ({} bytes)", bytes(memory.total()), memory.total());
}
