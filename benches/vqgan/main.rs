//! VQGAN's two stages at full width, with weights made up: a picture of 256x256 pixels through the autoencoder, and codes by a
//! transformer of 4 of the 24 blocks.
//!
//! `cargo bench -p kiln-tests --bench vqgan`. Throughput of the transformer is that of the weights which a code reads. A code
//! takes as long at the start of a text as at its end, but for the attention over the codes before it.

mod recipe;

use std::collections::BTreeSet;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::graph::random::SplitMix64;
use kiln::graph::{Graph, Tensor};
use kiln::models::vq_model::{self, VqModel};
use kiln::models::weights::SharedWeights;
use kiln::models::{Device, Runner, Taps, gpt};

const BLOCKS: usize = 4;
const POSITIONS: [u32; 3] = [0, 240, 480];
/// How many of a code's likeliest successors are read back.
const TOP_K: usize = 100;

fn precisions(gpu: &Gpu) -> impl Iterator<Item = (&'static str, Precision)> {
    let f16 = gpu.tier().f16;
    [("f32", Precision::F32), ("f16", Precision::F16)]
        .into_iter()
        .filter(move |&(_, precision)| f16 || precision == Precision::F32)
}

fn runner(
    gpu: &Gpu,
    graph: &Graph,
    weights: SharedWeights,
    precision: Precision,
    keep_f32: BTreeSet<String>,
) -> Result<Runner> {
    let device = Device::Gpu(gpu.clone());
    let runner = async { Runner::new(&device, graph, weights, precision, keep_f32, &mut |_, _| {}).await };
    Ok(pollster::block_on(runner)?)
}

fn reconstruction(criterion: &mut Criterion, gpu: &Gpu) -> Result<()> {
    let config = vq_model::Config::imagenet_f16_1024();
    let weights = recipe::autoencoder(&config)?;
    let side = config.sample_size;
    let model = VqModel::new(config, weights.as_ref())?;
    let graph = model.graph(1, [side; 2], &Taps::none())?;
    let random = SplitMix64::new(1);
    let image = (0..side * side * 3).map(|i| random.affine(i as u64, 1.0, 0.0));
    let image = Tensor::f32([1, side, side, 3], image.collect())?;
    let mut group = criterion.benchmark_group("vqgan reconstruct");
    group.throughput(Throughput::Elements(graph.flops())).sample_size(10);
    for (name, precision) in precisions(gpu) {
        let mut runner = runner(gpu, &graph, weights.clone(), precision, model.keep_f32(&graph))?;
        let inputs = [("image", image.clone())];
        pollster::block_on(runner.run(&inputs))?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| pollster::block_on(runner.run_unchecked(&inputs)));
        });
    }
    group.finish();
    Ok(())
}

fn codes(criterion: &mut Criterion, gpu: &Gpu) -> Result<()> {
    let config = gpt::Config { n_layer: BLOCKS, ..gpt::Config::vqgan() };
    let weights = recipe::transformer(&config)?;
    let (capacity, vocab) = (config.n_positions, config.vocab_size);
    let model = gpt::Gpt::new(config, weights.as_ref())?;
    let graph = model.step_graph(1, capacity, Some(TOP_K))?;
    // Of the tables a row is read.
    let read: usize = graph
        .weights()
        .filter(|(name, _)| !name.ends_with("_emb") && *name != "tok_emb.weight")
        .map(|(_, value)| graph.desc(value).len())
        .sum();
    for (name, precision) in precisions(gpu) {
        let mut runner = runner(gpu, &graph, weights.clone(), precision, BTreeSet::new())?;
        let bytes = read * if precision == Precision::F16 { 2 } else { 4 };
        println!("a code reads {bytes} bytes of weights in {name}");
        let mut group = criterion.benchmark_group(format!("vqgan code {name}"));
        group.throughput(Throughput::Bytes(bytes as u64)).sample_size(10);
        for position in POSITIONS {
            let inputs = [
                ("input_ids", Tensor::i32([1, 1], vec![(vocab / 2) as i32])?),
                ("position", Tensor::u32([], vec![position])?),
            ];
            pollster::block_on(runner.run(&inputs))?;
            group.bench_function(format!("after {position}"), |bencher| {
                bencher.iter(|| pollster::block_on(runner.run_unchecked(&inputs)));
            });
        }
        group.finish();
    }
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    let both = |gpu: Gpu| {
        println!("{}", gpu.describe());
        reconstruction(criterion, &gpu)?;
        codes(criterion, &gpu)
    };
    if let Err(error) = Gpu::open_blocking(&GpuOptions::default()).map_err(Into::into).and_then(both) {
        eprintln!("vqgan: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
